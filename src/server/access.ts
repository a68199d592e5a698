/**
 * Who asks, and what they may do: the one place where a request gets its permissions. Everything that a client can reach asks the
 * Principal of its request.
 */
import type { Revision } from "../branch/revision.ts";

/** What somebody may do with the data of a revision. */
export type AccessLevel = "none" | "read" | "write";

export interface Principal {
  /** Two requests are of the same principal when these are equal: streams belong to one. */
  readonly id: string;
  levelFor(revision: Revision): AccessLevel;
  /** What concerns all databases together: metrics. */
  readonly mayReadServer: boolean;
}

/** What came with the request. */
export interface Credentials {
  /** The header Authorization; null: there is none. */
  readonly authorization: string | null;
  /** The token of a WebSocket's hello; null: there is none. */
  readonly token: string | null;
}

export interface Access {
  /** Anybody may do anything, so that what web pages ask has to be refused by other means (origin.ts). */
  readonly isOpen: boolean;
  /** Throws what the client is to be told when the credentials are not good. */
  authenticate(credentials: Credentials): Principal | Promise<Principal>;
}

const ANYBODY: Principal = { id: "", levelFor: () => "write", mayReadServer: true };

/** No access control. */
export const OPEN_ACCESS: Access = { isOpen: true, authenticate: () => ANYBODY };
