/** Serves a store of this thread. */
import type { Store } from "../store/store.ts";
import { type Access, OPEN_ACCESS } from "./access.ts";
import { LocalAdminStore } from "./admin/local-admin-store.ts";
import { HttpServer } from "./http-server.ts";
import { LocalStore } from "./local-store.ts";
import { makeServerLog, NO_LOG } from "./operations/server-log.ts";
import { parseSettings } from "./settings.ts";

export interface ServeOptions {
  /** Whatever is left out of SERVER_SETTINGS has its default. */
  readonly settings?: unknown;
  /** None by default. */
  readonly access?: Access;
  /** Milliseconds; only differences count. */
  readonly now?: () => number;
  /** For event streams; see admin/job-events.ts. */
  readonly startHeartbeat?: (beat: () => void) => () => void;
  /** Told of errors that are bugs. */
  readonly onBug?: (error: unknown) => void;
  /** Gets the log, line by line. Without it nothing is logged. */
  readonly writeLog?: (line: string) => void;
}

/** Resolves when it listens. The store stays open when the server has stopped. */
export async function serveStore(
  store: Store,
  { settings: given = {}, access = OPEN_ACCESS, writeLog, ...rest }: ServeOptions = {},
): Promise<HttpServer> {
  const settings = parseSettings(given);
  const { busyTimeoutMs, statementMs } = settings;
  const served = new LocalStore(store, { busyTimeoutMs, statementTimeoutMs: statementMs });
  const admin = new LocalAdminStore(store);
  const log = writeLog === undefined ? NO_LOG : await makeServerLog(settings.logLevel, writeLog);
  return await HttpServer.start({ store: served, admin, settings, access, log, ...rest });
}
