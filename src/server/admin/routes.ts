/** The table of all routes. */
import type { AdminRoute } from "./admin-route.ts";
import { LOG_ROUTES } from "./branch-log.ts";
import { BRANCH_STATE_ROUTES } from "./branch-states.ts";
import { BRANCH_ROUTES } from "./branches.ts";
import { DATABASE_ROUTES } from "./databases.ts";
import { FILE_ROUTES } from "./files.ts";
import { JOB_ROUTES } from "./jobs.ts";
import { MAINTENANCE_ROUTES } from "./maintenance.ts";
import { RETENTION_ROUTES } from "./retention.ts";
import { SERVICE_ROUTES } from "./service.ts";
import { STORE_ROUTES } from "./store.ts";
import { TAG_ROUTES } from "./tags.ts";
import { TRANSACTION_ROUTES } from "./transactions.ts";

export const ADMIN_ROUTES: readonly AdminRoute[] = [
  ...SERVICE_ROUTES,
  ...DATABASE_ROUTES,
  ...BRANCH_ROUTES,
  ...BRANCH_STATE_ROUTES,
  ...LOG_ROUTES,
  ...FILE_ROUTES,
  ...RETENTION_ROUTES,
  ...TAG_ROUTES,
  ...STORE_ROUTES,
  ...MAINTENANCE_ROUTES,
  ...JOB_ROUTES,
  ...TRANSACTION_ROUTES,
];
