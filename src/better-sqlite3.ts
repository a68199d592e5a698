/**
 * A drop-in for better-sqlite3:
 *
 *   new Database("file")                               a store in that path, with one database
 *   new Database("shop/feature", { store: "./data" })  a revision of a store
 *   new Database(":memory:"), new Database(buffer)     in memory, as with better-sqlite3
 */
import { dirname } from "node:path";
import { editDistance } from "./branch/nearest-names.ts";
import { OptionError, StoreError } from "./errors.ts";
import type { BackupOptions as ConnectionBackupOptions, BackupProgress } from "./sqlite/backup.ts";
import { Connection } from "./sqlite/connection.ts";
import { SqliteRuntime } from "./sqlite/runtime.ts";
import { SqliteError } from "./sqlite/sqlite-error.ts";
import type {
  ColumnDefinition as StatementColumn,
  RunResult as StatementRunResult,
  Statement as ConnectionStatement,
} from "./sqlite/statement.ts";
import type { AnyFunction, TransactionFunction } from "./sqlite/transaction-function.ts";
import { openNodeStorage } from "./storage/node-storage.ts";
import { backupMemory, backupRevision } from "./store/backup.ts";
import type { Session } from "./store/session.ts";
import { openSharedSession } from "./store/shared-stores.ts";
import type { StoreOptions } from "./store/store-options.ts";
import type { Durability } from "./transaction/commit-pipeline.ts";

type Verbose = (...parameters: unknown[]) => unknown;

export interface DatabaseOptions {
  readonly readonly?: boolean;
  readonly fileMustExist?: boolean;
  /** Accepted and without effect: all connections of a store are in this thread, so waiting for one frees nothing. */
  readonly timeout?: number;
  readonly verbose?: Verbose | null;
  /** Accepted and without effect: nothing native is loaded for SQLite. */
  readonly nativeBinding?: string | object;
  /** The directory of the store that the first argument is a revision of. */
  readonly store?: string;
  /** Of a store that is opened by this: key, backend and so on. */
  readonly storeOptions?: StoreOptions;
  /** What a commit survives when it returns; the store's by default. */
  readonly durability?: Durability;
}

interface Opening {
  readonly runtime: SqliteRuntime;
  readonly options: ConstructorParameters<typeof Connection>[1];
  readonly session: Session | null;
}

class BoughDatabase extends Connection {
  readonly #session: Session | null;

  constructor(filename?: string | Buffer | Uint8Array, options?: DatabaseOptions) {
    const opening = prepareOpening(filename, options);
    try {
      super(opening.runtime, opening.options);
      this.#session = opening.session;
      opening.session?.attach(this);
    } catch (error) {
      opening.session?.release();
      throw error;
    }
  }

  /** See StoreConnection.durably; without a store the result is there at once. */
  durably<T>(body: () => T): Promise<T> {
    return this.#session === null ? Promise.resolve().then(body) : this.#session.durably(body);
  }

  /** Writes the database, as it is now, to a plain SQLite file, which is replaced as a whole. */
  override backup(
    destination: string,
    options?: ConnectionBackupOptions | null,
  ): Promise<BackupProgress> {
    return this.#session === null
      ? backupMemory(this, destination, options)
      : backupRevision(this, this.#session, destination, options);
  }

  override close(): this {
    const wasOpen = this.open;
    super.close();
    if (wasOpen) this.#session?.release();
    return this;
  }
}

function prepareOpening(filename: unknown, given: DatabaseOptions | undefined): Opening {
  if (filename === undefined || filename === null) filename = "";
  const bytes = filename instanceof Uint8Array ? filename : null;
  const options: DatabaseOptions = given ?? {};
  if (typeof filename !== "string" && bytes === null)
    throw new TypeError("Expected first argument to be a string");
  if (typeof options !== "object")
    throw new TypeError("Expected second argument to be an options object");
  if ("readOnly" in options)
    throw new TypeError('Misspelled option "readOnly" should be "readonly"');
  if ("memory" in options)
    throw new TypeError('Option "memory" was removed in v7.0.0 (use ":memory:" filename instead)');
  refuseMistakes(options);
  const name = typeof filename === "string" ? filename.trim() : ":memory:";
  const isMemory = name === "" || name === ":memory:";
  const readonly = booleanOption(options, "readonly");
  const fileMustExist = booleanOption(options, "fileMustExist");
  const verbose = options.verbose ?? null;
  if (isMemory && bytes === null && readonly)
    throw new TypeError("In-memory/temporary databases cannot be readonly");
  checkTimeout(options);
  if (verbose !== null && typeof verbose !== "function")
    throw new TypeError('Expected the "verbose" option to be a function');
  if (!["string", "object", "undefined"].includes(typeof options.nativeBinding))
    throw new TypeError('Expected the "nativeBinding" option to be a string or addon object');
  if (isMemory) {
    // An instance of its own, so that its memory goes away with it.
    const runtime = new SqliteRuntime({ vfs: { open: refuseFile } });
    return { runtime, options: { name, readonly, verbose, bytes }, session: null };
  }
  const session = openSession(name, options, { readonly, fileMustExist, verbose });
  return {
    runtime: session.runtime,
    options: { ...session.connectionOptions, displayName: String(filename) },
    session,
  };
}

/** Letters that may be wrong in an option of bough's own: what is further away is somebody else's. */
const WRONG_LETTERS_MAX = 2;
const OWN_OPTIONS = ["store", "storeOptions", "durability"] as const;
/** Left where nobody looks, they would make a store without encryption. */
const STORE_KEYS: ReadonlySet<string> = new Set(["key", "keyFile"]);

/** better-sqlite3 takes any option, and programs pass it some of others: only what is surely meant for bough is refused. */
function refuseMistakes(options: DatabaseOptions): void {
  for (const name of Object.keys(options)) {
    if (STORE_KEYS.has(name))
      throw new OptionError(
        `Cannot use option "${name}" here: it is of the store; write { storeOptions: { ${name} } }`,
      );
    const meant = OWN_OPTIONS.find((own) => isMisspelled(name, own));
    if (meant !== undefined)
      throw new OptionError(`Cannot use option "${name}": there is none; did you mean "${meant}"?`);
  }
}

function isMisspelled(name: string, own: string): boolean {
  if (name === own) return false;
  const lettersMax = own.length > 5 ? WRONG_LETTERS_MAX : 1;
  return editDistance(name.toLowerCase(), own.toLowerCase()) <= lettersMax;
}

function openSession(
  name: string,
  options: DatabaseOptions,
  checked: { readonly: boolean; fileMustExist: boolean; verbose: Verbose | null },
): Session {
  const { store, storeOptions = {}, durability } = options;
  const request = {
    ...checked,
    fileMustExist: checked.fileMustExist || checked.readonly,
    storeOptions,
    ...(durability === undefined ? {} : { durability }),
  };
  if (store !== undefined) return openSharedSession(store, { ...request, revision: name });
  if (!openNodeStorage(dirname(name)).existsSync(""))
    throw new TypeError("Cannot open database because the directory does not exist");
  try {
    return openSharedSession(name, { ...request, revision: null });
  } catch (cause) {
    if (!(cause instanceof StoreError) || cause.code !== "STORE_NOT_FOUND") throw cause;
    const error = new SqliteError("unable to open database file", "SQLITE_CANTOPEN");
    error.cause = cause;
    throw error;
  }
}

function booleanOption(options: DatabaseOptions, name: "readonly" | "fileMustExist"): boolean {
  if (!(name in options)) return false;
  const value: unknown = options[name];
  if (typeof value === "boolean") return value;
  throw new TypeError(`Expected the "${name}" option to be a boolean`);
}

function checkTimeout(options: DatabaseOptions): void {
  if (!("timeout" in options)) return;
  const timeout: unknown = options.timeout;
  if (!Number.isInteger(timeout) || Number(timeout) < 0)
    throw new TypeError('Expected the "timeout" option to be a positive integer');
  if (Number(timeout) > 0x7fffffff)
    throw new RangeError('Option "timeout" cannot be greater than 2147483647');
}

function refuseFile(name: string): never {
  throw new StoreError(
    "STORE_NOT_FOUND",
    `Cannot open "${name}": a database in memory has no store; attach from a connection on a store`,
  );
}

type DatabaseConstructor = typeof BoughDatabase & {
  (filename?: string | Buffer | Uint8Array, options?: DatabaseOptions): BoughDatabase;
  readonly SqliteError: typeof SqliteError;
};

/** Works with and without `new`, as better-sqlite3 does. */
const Database: DatabaseConstructor = new Proxy(Object.assign(BoughDatabase, { SqliteError }), {
  apply: (target, _receiver, parameters: ConstructorParameters<typeof BoughDatabase>) =>
    new target(...parameters),
}) as DatabaseConstructor;
type Database = BoughDatabase;

/** The names of the types of @types/better-sqlite3: `Database.Database`, `Database.Statement<[number], Row>` and so on. */
// oxlint-disable-next-line typescript/no-namespace, no-redeclare
declare namespace Database {
  export type Database = BoughDatabase;
  export type Statement<
    // oxlint-disable-next-line typescript/no-empty-object-type
    Parameters extends unknown[] | {} = unknown[],
    Row = unknown,
  > = Parameters extends unknown[]
    ? ConnectionStatement<Parameters, Row>
    : ConnectionStatement<[Parameters], Row>;
  export type Transaction<F extends AnyFunction = AnyFunction> = TransactionFunction<F>;
  export type Options = DatabaseOptions;
  export type RunResult = StatementRunResult;
  export type ColumnDefinition = StatementColumn;
  export type BackupOptions = ConnectionBackupOptions;
  export type BackupMetadata = BackupProgress;
  export type SqliteError = ErrorOfSqlite;
}
type ErrorOfSqlite = SqliteError;

export { Database, Database as default, Database as "module.exports", SqliteError };
