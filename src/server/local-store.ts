/**
 * A store of this thread, as the server needs it. Connections that are given back clean serve others on the same branch or
 * version: most requests open a stream, run one statement and close it.
 *
 *   (none) --open, none idle--> in use --close, clean--> idle --open--> in use
 *   in use --close, not clean--> closed      idle --too many, IDLE_MS over, the server stops--> closed
 *
 * K1. One is used again only for the same branch by its id (in its partition), or the same version: a branch that was deleted and made anew is another one.
 * K2. One that writes is never used again for who may only read. What it may attach is what who has it now may. What others have asked is
 *     not to be seen (U5 in traces.ts).
 * K3. A branch that gets another name is, for who has a connection to it or has attached it, what that name is: the next statement asks
 *     whether it may go on. A fixed version stays what it was when it was opened.
 */
import { parseRevision } from "../branch/revision.ts";
import { invariant, StoreError } from "../errors.ts";
import type { AsyncConnection } from "../sqlite/async-connection.ts";
import type {
  AsyncExecutor,
  Executed,
  ExecuteRequest,
  RowSink,
  StatementDescription,
} from "../sqlite/async-executor.ts";
import type { CallLimits } from "../sqlite/async-calls.ts";
import { NotLocalError, readFetching } from "../storage/not-local.ts";
import { findRevision, type ResolvedRevision } from "../store/resolve-revision.ts";
import { type DiskStatistics, headBytes } from "../store/statistics.ts";
import type { Engine } from "../store/engine.ts";
import type { StoreCounters } from "../store/store-counters.ts";
import type { Store } from "../store/store.ts";
import { type Admit, ConnectionContext } from "../transaction/connection-context.ts";
import type { Principal } from "./access.ts";
import { admission } from "./admission.ts";
import type { FoundRevision, ServedConnection, ServedStore } from "./served-store.ts";

/** Each has an instance of SQLite, until the store's connectionBytesMax takes it back. */
const IDLE_MAX = 32;
const IDLE_MS = 10_000;

export interface LocalStoreOptions {
  readonly busyTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly branchBytesMax?: number;
  /** How many connections are kept that nobody has. */
  readonly idleMax?: number;
}

/** A revision, and what who asks for it may do there. */
interface Found {
  /** K1. */
  readonly key: string;
  readonly access: "read" | "write";
  readonly admit: Admit;
  readonly admissionFrom: AdmissionFrom;
}

export class LocalStore implements ServedStore {
  readonly loads: readonly [] = [];
  readonly #store: Store;
  readonly #options: Omit<LocalStoreOptions, "idleMax">;
  readonly #idleMax: number;
  /** The one given back last is the last. */
  readonly #idle: LocalConnection[] = [];
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(store: Store, { idleMax = IDLE_MAX, ...options }: LocalStoreOptions) {
    this.#store = store;
    this.#options = options;
    this.#idleMax = idleMax;
  }

  open(revision: string, principal: Principal): ServedConnection | Promise<ServedConnection> {
    const { database } = parseRevision(revision);
    const engine = this.#engineOf(database);
    const admissionFrom = (from: string): Admit => admission(engine, principal, from);
    const admit = admissionFrom(database);
    const find = (): Found => {
      const access = admit(revision, true);
      // Ids are of one partition.
      const key = `${engine.partition?.index ?? 0}/${keyOf(findRevision(engine, revision))} ${access}`;
      return { key, access, admit, admissionFrom };
    };
    try {
      return this.#openFound(revision, find());
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      return readFetching(find, {}).then((found) => this.#openFound(revision, found));
    }
  }

  #openFound(revision: string, found: Found): ServedConnection | Promise<ServedConnection> {
    const idle = this.#takeIdle(found.key);
    if (idle === null) return this.#openNew(revision, found);
    idle.takeAgain(found.admit, found.admissionFrom);
    return idle;
  }

  async #openNew(revision: string, found: Found): Promise<ServedConnection> {
    const { admit, access } = found;
    const readonly = access === "read";
    const connection = await this.#store.open(revision, { ...this.#options, readonly, admit });
    const give = (given: LocalConnection): Promise<void> | null => this.#give(given);
    return new LocalConnection(connection, { ...found, give });
  }

  async lookUp(revision: string): Promise<FoundRevision> {
    const engine = this.#engineOf(parseRevision(revision).database);
    const { database, branch, snapshot } = await readFetching(
      () => findRevision(engine, revision),
      {},
    );
    return {
      database: database.refs.row.name,
      branch: branch.name,
      isFixed: snapshot !== null,
    };
  }

  async ensureDatabase(name: string): Promise<void> {
    await Promise.resolve();
    try {
      this.#store.createDatabase(name);
    } catch (error) {
      if (!(error instanceof StoreError && error.code === "DATABASE_EXISTS")) throw error;
    }
  }

  async counters(): Promise<StoreCounters> {
    await Promise.resolve();
    return this.#store.counters();
  }

  async diskUse(): Promise<DiskStatistics> {
    await Promise.resolve();
    return this.#store.diskUse();
  }

  async headBytes(names: readonly string[]): Promise<(readonly [string, number])[]> {
    const found: (readonly [string, number])[] = [];
    for (const name of names)
      for (const engine of this.#store.engines) {
        const bytes = await readFetching(() => headBytes(engine, name), {});
        if (bytes !== null) found.push([name, bytes]);
      }
    return found;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await Promise.all(this.#idle.splice(0).map((idle) => idle.end()));
  }

  /** That of the database's partition; any, when there is no such database. */
  #engineOf(name: string): Engine {
    const { engines } = this.#store;
    const engine = engines.find(({ state }) => state.refs.databaseIds.has(name)) ?? engines[0];
    invariant(engine !== undefined, "A store has an engine");
    return engine;
  }

  #takeIdle(key: string): LocalConnection | null {
    const index = this.#idle.findLastIndex((idle) => idle.key === key);
    if (index < 0) return null;
    const [idle] = this.#idle.splice(index, 1);
    return idle === undefined || !idle.isClean ? null : idle;
  }

  #give(connection: LocalConnection): Promise<void> | null {
    if (this.#isClosed || !connection.isClean) return connection.end();
    connection.givenAt = performance.now();
    this.#idle.push(connection);
    this.#timer ??= setTimeout(() => this.#endOld(), IDLE_MS).unref();
    return this.#idle.length > this.#idleMax ? (this.#idle.shift()?.end() ?? null) : null;
  }

  #endOld(): void {
    this.#timer = null;
    const until = performance.now() - IDLE_MS;
    // In the order in which they were given back.
    while ((this.#idle[0]?.givenAt ?? Infinity) <= until) void this.#idle.shift()?.end();
    if (this.#idle.length > 0) this.#timer = setTimeout(() => this.#endOld(), IDLE_MS).unref();
  }
}

/** K1. */
function keyOf({ database, branch, snapshot }: ResolvedRevision): string {
  const { id } = database.refs.row;
  const place = `${id}/${branch.id}`;
  return snapshot === null ? place : `${place}@${snapshot.version}`;
}

interface Names {
  readonly database: string;
  readonly branch: string;
}

/** What a connection to a branch of that database may open. */
type AdmissionFrom = (database: string) => Admit;

class LocalConnection implements ServedConnection {
  readonly key: string;
  givenAt = 0;
  readonly #connection: AsyncConnection;
  readonly #executor: AsyncExecutor;
  readonly #context: ConnectionContext;
  readonly #access: "read" | "write";
  readonly #give: (connection: LocalConnection) => Promise<void> | null;
  #admissionFrom: AdmissionFrom;
  /** For which it was admitted. */
  #names: Names | null;
  /** The same of what it has attached, from the first statement after that on. */
  #attached: WeakMap<object, Names> = new WeakMap();
  #isInUse = true;

  constructor(
    connection: AsyncConnection,
    {
      key,
      access,
      admissionFrom,
      give,
    }: {
      readonly key: string;
      readonly access: "read" | "write";
      readonly admissionFrom: AdmissionFrom;
      readonly give: (connection: LocalConnection) => Promise<void> | null;
    },
  ) {
    this.#connection = connection;
    this.#executor = connection.executor();
    this.#executor.hideStatements();
    const { owner } = this.#executor;
    invariant(owner instanceof ConnectionContext, "A connection of a store has a context");
    this.#context = owner;
    this.#access = access;
    this.#admissionFrom = admissionFrom;
    this.#names = namesOf(owner);
    this.key = key;
    this.#give = give;
  }

  get isAutocommit(): boolean {
    return this.#executor.isAutocommit;
  }

  get isClean(): boolean {
    return this.#connection.open && this.#executor.isClean;
  }

  execute(request: ExecuteRequest, sink: RowSink, limits?: CallLimits): Promise<Executed> {
    this.#requireAdmitted();
    return this.#executor.execute(request, sink, limits);
  }

  script(sql: string, limits?: CallLimits): Promise<void> {
    this.#requireAdmitted();
    return this.#executor.script(sql, limits);
  }

  describe(sql: string, limits?: CallLimits): Promise<StatementDescription> {
    this.#requireAdmitted();
    return this.#executor.describe(sql, limits);
  }

  rollBack(): Promise<void> {
    return this.#executor.rollBack();
  }

  settled(isLast?: boolean): Promise<void> | null {
    return this.#executor.settled(isLast);
  }

  interrupt(): void {
    this.#connection.interrupt();
  }

  takeAgain(admit: Admit, admissionFrom: AdmissionFrom): void {
    this.#context.admit = admit;
    this.#admissionFrom = admissionFrom;
    this.#names = namesOf(this.#context);
    this.#isInUse = true;
    this.#executor.reset();
  }

  close(): Promise<void> | null {
    if (!this.#isInUse) return null;
    this.#isInUse = false;
    return this.#give(this);
  }

  /** K3. */
  #requireAdmitted(): void {
    const names = namesOf(this.#context);
    if (names === null) return;
    if (!isSame(names, this.#names)) {
      const admit = this.#admissionFrom(names.database);
      this.#requireAccess(names, admit(revisionOf(names), true) === "write");
      this.#context.admit = admit;
      this.#names = names;
      this.#attached = new WeakMap(); // It may have been another database's.
    }
    if (this.#context.files.size > 1) this.#requireAttached();
  }

  #requireAttached(): void {
    const { files, admit } = this.#context;
    const [, ...attached] = files;
    for (const file of attached) {
      if (file.target.isFixed) continue;
      const names = livingNamesOf(file.target);
      if (names === null || isSame(names, this.#attached.get(file) ?? null)) continue;
      const mayWrite = (admit?.(revisionOf(names), false) ?? "write") === "write";
      this.#requireAccess(names, mayWrite || file.readOnlyError !== null);
      this.#attached.set(file, names);
    }
  }

  #requireAccess({ database, branch }: Names, mayGoOn: boolean): void {
    if (mayGoOn || this.#access === "read") return;
    throw new StoreError(
      "FORBIDDEN",
      `Cannot write to "${database}/${branch}", which was renamed: the token does not allow it`,
      { details: { action: "write", database, branch } },
    );
  }

  /** For good. */
  end(): Promise<void> {
    return this.#connection.close();
  }
}

/** Of the connection's own revision, as it is called now. Null: the connection has failed. */
function namesOf({ parked, files }: ConnectionContext): Names | null {
  // Attached ones come later.
  const [own] = files;
  const target = parked?.target ?? own?.target;
  return target === undefined ? null : { database: target.database, branch: target.branch };
}

/** Null: it is not there any more, which SQLite is told when it reads it. */
function livingNamesOf(target: Names): Names | null {
  try {
    return { database: target.database, branch: target.branch };
  } catch (error) {
    if (error instanceof StoreError) return null;
    throw error;
  }
}

function isSame({ database, branch }: Names, other: Names | null): boolean {
  return branch === other?.branch && database === other.database;
}

function revisionOf({ database, branch }: Names): string {
  return `${database}/${branch}`;
}
