/** Serves a store, of this thread or one whose databases are spread over threads. */
import type { Store } from "../store/store.ts";
import { ThreadedStore } from "../threads/threaded-store.ts";
import { type Access, OPEN_ACCESS, tokenAccess } from "./access.ts";
import { openAuthenticator } from "./access/open-authenticator.ts";
import { LocalAdminStore } from "./admin/local-admin-store.ts";
import { HttpServer, type HttpServerOptions } from "./http-server.ts";
import { Listener } from "./listener.ts";
import { LocalStore, type LocalStoreOptions } from "./local-store.ts";
import { describeError, makeServerLog, NO_LOG, type ServerLog } from "./operations/server-log.ts";
import type { Tracing } from "./operations/tracing.ts";
import type { ServerSettings } from "./setting-list.ts";
import { kebabName } from "./setting-name.ts";
import { parseSettings } from "./settings.ts";
import { ThreadedAdminStore } from "./threaded/threaded-admin-store.ts";
import { hostService, ThreadedServedStore } from "./threaded/threaded-served-store.ts";

export interface ServeOptions {
  /** Whatever is left out of SERVER_SETTINGS has its default. */
  readonly settings?: unknown;
  /** By default what the settings say, and the store's own key. */
  readonly access?: Access;
  /** Milliseconds; only differences count. */
  readonly now?: () => number;
  /** For event streams; see admin/job-events.ts. */
  readonly startHeartbeat?: (beat: () => void) => () => void;
  /** Told of errors that are bugs. */
  readonly onBug?: (error: unknown) => void;
  /** Gets the log, line by line. Without it nothing is logged. */
  readonly writeLog?: (line: string) => void;
  /** Told what went wrong with keys and certificates while those of before are used. */
  readonly onProblem?: (error: unknown) => void;
}

/** A server whose port is bound, and that has no store yet. Disposing of it ends it, unless it serves one. */
export interface BoundServer extends AsyncDisposable {
  /** Resolves when it serves the store, which stays open when the server has stopped. */
  serve(store: Store | ThreadedStore): Promise<HttpServer>;
}

export interface BindOptions extends ServeOptions {
  /** Of the store, which may not be there yet; null: it is known when the store is open. */
  readonly storeDirectory: string | null;
}

/** Resolves when it listens. The store stays open when the server has stopped. */
export async function serveStore(
  store: Store | ThreadedStore,
  options: ServeOptions = {},
): Promise<HttpServer> {
  await using bound = await bindServer({ ...options, storeDirectory: directoryOf(store) });
  return await bound.serve(store);
}

/** Does all that can fail without a store: nothing of it is left when it does. */
export async function bindServer({
  settings: given = {},
  writeLog,
  storeDirectory,
  ...options
}: BindOptions): Promise<BoundServer> {
  const settings = parseSettings(given);
  const log = writeLog === undefined ? NO_LOG : await makeServerLog(settings.logLevel, writeLog);
  const onProblem = (error: unknown): void => {
    log.warn("problem", { error: describeError(error) });
    options.onProblem?.(error);
  };
  const accessWith = (directory: string | null): Access =>
    options.access ?? accessOf(directory, settings, onProblem);
  const known = storeDirectory === null ? (options.access ?? null) : accessWith(storeDirectory);
  const { now = () => performance.now(), startHeartbeat, onBug } = options;
  const isAuthenticated = known === null ? null : !known.isOpen;
  const listener = await Listener.bind({ settings, isAuthenticated, now });
  let tracing: Tracing | null;
  try {
    tracing = await tracingOf(settings, log);
  } catch (error) {
    await listener.close();
    throw error;
  }
  let isServing = false;
  return {
    serve: async (store) => {
      const access = known ?? accessWith(directoryOf(store));
      listener.requireAllowed(!access.isOpen);
      const server = await HttpServer.start({
        ...storesOf(store, settings),
        listener,
        settings,
        access,
        log,
        tracing,
        onProblem,
        now,
        ...(startHeartbeat === undefined ? {} : { startHeartbeat }),
        ...(onBug === undefined ? {} : { onBug }),
      });
      isServing = true;
      access.prepare?.();
      return server;
    },
    [Symbol.asyncDispose]: async () => {
      if (isServing) return;
      await listener.close();
      await tracing?.stop();
    },
  };
}

/** X1 in tracing.ts. */
async function tracingOf(settings: ServerSettings, log: ServerLog): Promise<Tracing | null> {
  const { otelEndpoint } = settings;
  if (otelEndpoint === null) return null;
  const { makeTracing } = await import("./operations/otel-tracing.ts");
  return makeTracing(otelEndpoint, { settings, log });
}

function storesOf(
  store: Store | ThreadedStore,
  { busyTimeoutMs, statementMs, databaseBytesMax }: ServerSettings,
): Pick<HttpServerOptions, "store" | "admin" | "storeDirectory"> {
  const options: LocalStoreOptions = {
    busyTimeoutMs,
    statementTimeoutMs: statementMs,
    ...(databaseBytesMax === 0 ? {} : { branchBytesMax: databaseBytesMax }),
  };
  if (!(store instanceof ThreadedStore)) {
    const admin = new LocalAdminStore(store);
    return { store: new LocalStore(store, options), admin, storeDirectory: admin.directory };
  }
  const client = hostService(store, options);
  return {
    store: new ThreadedServedStore(store, client),
    admin: new ThreadedAdminStore(store, client),
    storeDirectory: store.directory,
  };
}

function directoryOf(store: Store | ThreadedStore): string | null {
  if (store instanceof ThreadedStore) return store.directory;
  const [root] = store.engines;
  return root?.state.storage.directory ?? null;
}

/** Without any key there is no access control. */
function accessOf(
  storeDirectory: string | null,
  settings: ServerSettings,
  onProblem: (error: unknown) => void,
): Access {
  const { authKeyFile, authSecretFile, authJwksUrl, noAuth } = settings;
  if (noAuth) {
    if (authKeyFile.length + authSecretFile.length + authJwksUrl.length > 0)
      throw new RangeError(
        `Cannot use "no-auth" together with keys for tokens: either everybody is let in, or who has a token`,
      );
    return OPEN_ACCESS;
  }
  const { revocations, authAudience: audience, authIssuer: issuer, authWithoutClaims } = settings;
  const authenticator = openAuthenticator(
    {
      storeDirectory,
      keyFiles: authKeyFile,
      secretFiles: authSecretFile,
      jwksUrls: authJwksUrl,
      withoutClaims: authWithoutClaims ? "rw" : "nothing",
      ...(revocations === null ? {} : { revocationsFile: revocations }),
      ...(audience === null ? {} : { audience }),
      ...(issuer === null ? {} : { issuer }),
    },
    { onProblem },
  );
  if (authenticator !== null) return tokenAccess(authenticator);
  // Whoever sets these does not expect that everybody is let in.
  const unused = Object.entries({ revocations, authAudience: audience, authIssuer: issuer }).find(
    ([, value]) => value !== null,
  );
  const [name = authWithoutClaims ? "authWithoutClaims" : null] = unused ?? [];
  if (name !== null)
    throw new RangeError(
      `Cannot use "${kebabName(name)}" without a key for tokens: give "auth-key-file", "auth-secret-file" or "auth-jwks-url", or make the store's own with "bough token key create"`,
    );
  return OPEN_ACCESS;
}
