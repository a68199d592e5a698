/** Everything that a store asks of object storage; RemoteClient outside of tests. */
import type { BlockSource } from "./lazy-fetch.ts";
import type { RemoteAccess } from "./remote-steps.ts";

export interface RemoteConnection extends RemoteAccess, BlockSource {
  /** Requests begun, by whatever call; repeated attempts are not counted. */
  readonly requestCount: number;
}
