/**
 * One instance of SQLite, with any number of connections. Everything in it runs on one thread.
 *
 * R1. A trap (out of bounds, unreachable, stack overflow) leaves SQLite's memory in an unknown state. The runtime then
 *     fails for good: each later call on each of its connections throws STORE_FAILED, and nothing more is written.
 * R2. `current` is the connection that called into SQLite last and has not returned: the one that opens files.
 *     JavaScript that SQLite calls puts it back, as it may use other connections.
 */
import { StoreError } from "../errors.ts";
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import type { StatementHandle } from "./statement-cache.ts";
import { SQLITE_CONFIG_MEMSTATUS, SQLITE_CONFIG_URI, SQLITE_OK } from "./constants.ts";
import { fuseRun, type FusedRun } from "./fused-run.ts";
import { Heap } from "./heap.ts";
import { findLayout, type RowLayout } from "./row-reader.ts";
import { SuspendableCalls } from "./suspendable-calls.ts";
import { makeTraceFunction } from "./traces.ts";
import { UserFunctions } from "./user-functions.ts";
import { registerVfs } from "./vfs-bridge.ts";
import { canSuspend } from "./suspension.ts";
import type { Vfs } from "./vfs.ts";
import { VirtualTables } from "./virtual-tables.ts";
import type { SqliteExports } from "./wasm-exports.ts";
import { instantiateSqlite } from "./wasm-host.ts";
import { makeProgressFunction } from "./work-limit.ts";
import { MEMORY_BYTES_MAX } from "./wasm-imports.ts";
import { wrapCallbacks, type WasmCallback, type WasmFunction } from "./trampoline.ts";

export interface SqliteRuntimeOptions {
  /** Opens the databases whose connections name no other VFS. */
  readonly vfs: Vfs;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** Where temporary files go that outgrow memory; the system's temporary directory by default. */
  readonly temporaryDirectory?: string;
  /** Bound of SQLite's memory, page caches included; 2 GiB by default, which is the most there can be. */
  readonly memoryBytesMax?: number;
  /** Calls can be suspended while a page is fetched, where the runtime has that; then for one connection at a time. */
  readonly suspends?: boolean;
  /** SQLite counts what it allocates. */
  readonly countsMemory?: boolean;
  /** False: read every value through SQLite's public interface (L1 in row-reader.ts). */
  readonly readRowsInPlace?: boolean;
}

const SQLITE_STATUS_MEMORY_USED = 0;

/** Name of the default VFS. */
export const DEFAULT_VFS = "bough";

/** The same for every instance of the module: found once. */
let knownLayout: { readonly layout: RowLayout | null } | null = null;

export class SqliteRuntime {
  /** Of connections that name none. */
  readonly vfs: Vfs;
  readonly heap: Heap = new Heap();
  readonly exports: SqliteExports;
  readonly now: () => number;
  readonly temporaryDirectory: string | null;
  readonly run: FusedRun;
  /** A function table index: give it to SQLite as the destructor of memory that it takes over. */
  readonly freeFunction: number;
  /** Where SQLite keeps rows; null: unknown, see row-reader.ts. */
  readonly layout: RowLayout | null;
  current: ConnectionState | null = null;
  readonly suspends: boolean;
  /** A call is running that may be suspended: see suspension.ts. */
  isSuspendable = false;
  readonly connections: Set<ConnectionState> = new Set();
  /** Journal files that SQLite opened, in memory: none but those of VACUUM INTO. */
  journalsOpened = 0;
  readonly #abandoned: FinalizationRegistry<{ state: ConnectionState; handle: StatementHandle }>;
  #failure: unknown = null;
  #functions: UserFunctions | null = null;
  #progressFunction = 0;
  #traceFunction = 0;
  #suspendable: SuspendableCalls | null = null;
  #tables: VirtualTables | null = null;
  /** False: something was set that the next connection would find. */
  isReusable = true;

  constructor(options: SqliteRuntimeOptions) {
    const { vfs, now, temporaryDirectory, readRowsInPlace = true } = options;
    this.now = now ?? Date.now;
    this.temporaryDirectory = temporaryDirectory ?? null;
    this.suspends = canSuspend && (options.suspends ?? false);
    const instance = instantiateSqlite({
      now: this.now,
      onGrow: () => this.heap.refresh(),
      memoryBytesMax: options.memoryBytesMax ?? MEMORY_BYTES_MAX,
    });
    const { exports } = instance;
    this.exports = exports;
    exports.sqlite3__wasm_config_i(SQLITE_CONFIG_MEMSTATUS, options.countsMemory === true ? 1 : 0);
    exports.sqlite3__wasm_config_i(SQLITE_CONFIG_URI, 0);
    const code = exports.sqlite3_initialize();
    if (code !== SQLITE_OK)
      throw new StoreError("STORE_FAILED", `Cannot start SQLite: result code ${code}`);
    this.heap.attach(instance);
    this.freeFunction = this.addFunctions([exports.sqlite3_free]);
    this.run = fuseRun(instance);
    this.#removeFileSystems();
    this.vfs = vfs;
    registerVfs(this, { name: DEFAULT_VFS, vfs, makeDefault: true });
    knownLayout ??= { layout: findLayout(this) };
    this.layout = readRowsInPlace ? knownLayout.layout : null;
    this.#abandoned = new FinalizationRegistry(({ state, handle }) =>
      state.statements.finalize(handle),
    );
  }

  /** Adds a VFS under a name of its own: a Connection chooses it with `vfsName`. */
  registerVfs(name: string, vfs: Vfs): void {
    registerVfs(this, { name, vfs, makeDefault: false });
  }

  /** Puts callbacks into SQLite's function table; returns the first one's index, the others follow it. */
  addCallbacks(
    callbacks: readonly { readonly signature: string; readonly callback: WasmCallback }[],
  ): number {
    return this.addFunctions(wrapCallbacks(callbacks));
  }

  /** Finalizes the statement after `holder` was collected. */
  finalizeWith(holder: object, state: ConnectionState, handle: StatementHandle): void {
    this.#abandoned.register(holder, { state, handle });
  }

  /** See work-limit.ts; made when the first connection is watched. */
  get progressFunction(): number {
    return (this.#progressFunction ||= makeProgressFunction(this));
  }

  /** See traces.ts; made when the first awaited connection is opened. */
  get traceFunction(): number {
    return (this.#traceFunction ||= makeTraceFunction(this));
  }

  /** For its one awaited connection; made when the first one is opened. */
  get suspendable(): SuspendableCalls {
    return (this.#suspendable ??= new SuspendableCalls(this));
  }

  /** The most that SQLite has had allocated at a time, in bytes: the memory does not shrink. Needs `countsMemory`. */
  get allocatedBytesMax(): number {
    const { exports, heap } = this;
    exports.sqlite3_status(SQLITE_STATUS_MEMORY_USED, heap.scratch, heap.scratch + 4, 0);
    return heap.i32[(heap.scratch + 4) >> 2]! >>> 0;
  }

  /** SQL functions in JavaScript; made when the first one is registered. */
  get functions(): UserFunctions {
    return (this.#functions ??= new UserFunctions(this));
  }

  /** Virtual tables in JavaScript; made when the first one is registered. */
  get tables(): VirtualTables {
    return (this.#tables ??= new VirtualTables(this));
  }

  /** See R1. Returns the error to throw. */
  fail(cause: unknown): StoreError {
    this.#failure ??= cause;
    for (const connection of this.connections) connection.status = ConnectionStatus.failed;
    return this.failureError();
  }

  get hasFailed(): boolean {
    return this.#failure !== null;
  }

  requireRunning(): void {
    if (this.#failure !== null) throw this.failureError();
  }

  failureError(): StoreError {
    return new StoreError(
      "STORE_FAILED",
      "Cannot use this connection: its SQLite instance failed earlier",
      {
        cause: this.#failure,
      },
    );
  }

  /** The same for functions that WebAssembly made. */
  addFunctions(functions: readonly WasmFunction[]): number {
    const table = this.exports.__indirect_function_table;
    const first = table.grow(functions.length);
    for (const [index, target] of functions.entries()) table.set(first + index, target);
    return first;
  }

  /** SQLite's own VFSs have no file system behind them here. */
  #removeFileSystems(): void {
    const { exports, heap } = this;
    for (const name of ["unix", "unix-none", "unix-dotfile", "unix-excl"]) {
      const text = heap.allocateText(name);
      const pointer = exports.sqlite3_vfs_find(text);
      if (pointer !== 0) exports.sqlite3_vfs_unregister(pointer);
      exports.sqlite3_free(text);
    }
  }
}
