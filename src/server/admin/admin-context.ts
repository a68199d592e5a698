/** What the routes of the admin API share. */
import type { Access } from "../access.ts";
import type { SendLimit } from "../send-limit.ts";
import type { ServerSettings } from "../setting-list.ts";
import type { AdminStore } from "./admin-store.ts";
import type { JobTable } from "./job-table.ts";

export interface AdminContext {
  readonly store: AdminStore;
  readonly settings: ServerSettings;
  readonly access: Access;
  readonly sending: SendLimit;
  readonly jobs: JobTable;
  /** See job-events.ts. */
  readonly startHeartbeat: (beat: () => void) => () => void;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
}
