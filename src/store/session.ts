/** What ties a connection to its store: the files it opened, how durable its commits are, what it must give back. */
import { requireBoolean, requireOptions } from "../branch/option-names.ts";
import type { CallHooks, ContentionLimits } from "../sqlite/async-calls.ts";
import type { AsyncConnection } from "../sqlite/async-connection.ts";
import type { Connection, ConnectionOptions } from "../sqlite/connection.ts";
import type { SqliteRuntime } from "../sqlite/runtime.ts";
import type { Durability } from "../transaction/commit-pipeline.ts";
import { type Admit, ConnectionContext } from "../transaction/connection-context.ts";
import { ParkedRevision } from "../transaction/parked-revision.ts";
import type { RevisionFile } from "../transaction/revision-file.ts";
import type { Snapshot } from "../transaction/snapshot.ts";
import { CONNECT_OPTIONS } from "./call-options.ts";
import { type Engine, requireUploads } from "./engine.ts";
import { DURABILITIES, requireOneOf } from "./store-options.ts";

export interface ConnectOptions {
  /** Refuse writes. Revisions with "@" are read-only anyway. */
  readonly readonly?: boolean;
  /** What a commit survives when it returns; the store's by default. PRAGMA synchronous changes it. */
  readonly durability?: Durability | "remote";
  /** How long one statement may wait for pages from object storage, in milliseconds; without end by default. */
  readonly fetchTimeoutMs?: number;
  /** How long one statement may run, in milliseconds, then TIMEOUT; without end by default. */
  readonly statementTimeoutMs?: number;
  /**
   * Of a connection that is awaited (`store.open`): how long a statement may wait while another transaction writes, in
   * milliseconds; 5000 by default, 0: SQLITE_BUSY at once, as on a synchronous connection.
   */
  readonly busyTimeoutMs?: number;
  /** Called with the SQL of each statement before it runs. */
  readonly verbose?: ((...parameters: unknown[]) => unknown) | null;
  /** @internal Of servers: to which size it may let a branch grow. */
  readonly branchBytesMax?: number;
  /** @internal Of servers: what of the store it may open. */
  readonly admit?: Admit;
}

function requireConnectOptions(options: ConnectOptions): void {
  requireOptions("a connection", options, CONNECT_OPTIONS);
  requireBoolean("readonly", options.readonly);
  if (options.durability !== undefined)
    requireOneOf("durability", options.durability, DURABILITIES);
}

/** As PRAGMA synchronous counts. */
const SYNCHRONOUS = { off: 0, normal: 1, full: 2 } as const satisfies Record<Durability, number>;

export class Session {
  readonly #runtime: () => SqliteRuntime;
  /** How the Connection is to be made. */
  readonly connectionOptions: ConnectionOptions;
  readonly #engine: Engine;
  readonly #context: ConnectionContext;
  readonly #onRelease: (session: Session) => void;
  readonly #isRemote: boolean;
  /** Set by `attach`: what the store closes when it is closed. */
  connection: Connection | null = null;
  asyncConnection: AsyncConnection | null = null;
  /** What `#settle` has waited for: with "remote" it is uploaded. */
  #settledLsn = 0;
  /** What else is to be let go of with the connection. */
  onReleased: (() => void) | null = null;

  constructor(options: {
    engine: Engine;
    /** Of connections that are not awaited. */
    runtime: () => SqliteRuntime;
    revision: string;
    pageSize: number;
    connect: ConnectOptions;
    onRelease: (session: Session) => void;
  }) {
    const { engine, connect } = options;
    requireConnectOptions(connect);
    this.#runtime = options.runtime;
    this.#engine = engine;
    this.#onRelease = options.onRelease;
    const asked = connect.durability ?? engine.options.durability;
    this.#isRemote =
      connect.durability === undefined ? engine.options.isRemoteDurable : asked === "remote";
    const durability = asked === "remote" ? "full" : asked;
    this.#context = new ConnectionContext(durability);
    this.#context.awaitsUpload = this.#isRemote;
    this.#context.admit = connect.admit ?? null;
    this.#context.branchBytesMax = connect.branchBytesMax ?? Infinity;
    if (this.#isRemote) {
      const uploads = requireUploads(engine);
      this.#context.afterCommit = (lsn) => uploads.waitSync(lsn);
    }
    this.connectionOptions = {
      name: options.revision,
      readonly: connect.readonly ?? false,
      fileMustExist: true,
      pageSize: options.pageSize,
      synchronous: SYNCHRONOUS[durability],
      owner: this.#context,
      fetchTimeoutMs: connect.fetchTimeoutMs ?? Infinity,
      ...(connect.statementTimeoutMs === undefined
        ? {}
        : { statementTimeoutMs: connect.statementTimeoutMs }),
      ...(connect.busyTimeoutMs === undefined ? {} : { busyTimeoutMs: connect.busyTimeoutMs }),
      verbose: connect.verbose ?? null,
    };
  }

  /** For a connection that is not awaited. */
  get runtime(): SqliteRuntime {
    return this.#runtime();
  }

  /** What the connection reads now, or would: its open transaction's snapshot, without what that has written. */
  get snapshot(): Snapshot {
    return this.#mainFile().snapshot;
  }

  /** Called by the Connection once it is made. */
  attach(connection: Connection): void {
    this.connection = connection;
    for (const [name, describe] of this.#functions()) connection.function(name, describe);
  }

  /** The same for one that is awaited. */
  async attachAsync(connection: AsyncConnection): Promise<void> {
    this.asyncConnection = connection;
    this.#context.isAwaited = true;
    for (const [name, describe] of this.#functions()) await connection.function(name, describe);
  }

  #functions(): [string, () => string | number][] {
    const describe = (value: (file: RevisionFile) => string | number): (() => string | number) => {
      return () => value(this.#mainFile());
    };
    return [
      ["bough_database", describe((file) => file.target.database)],
      ["bough_branch", describe((file) => file.target.branch)],
      ["bough_version", describe((file) => file.snapshot.version)],
    ];
  }

  /** The id of the transaction that commits next; null: none. */
  set transactionId(id: string | null) {
    this.#context.transactionId = id;
  }

  /**
   * A commit of an awaited call is appended to the log in its turn; the call resolves when a group flush has made it durable,
   * and with "remote" when it is uploaded. So does a call that was shown the commits of others, which may still be on their way.
   */
  get hooks(): CallHooks {
    const context = this.#context;
    return {
      enter: () => {
        context.isDeferred = this.#isRemote || context.durability === "full";
      },
      settled: (isBetween) => {
        const { lastLsn, seenLsn, isDeferred } = context;
        const lsn = isBetween && isDeferred && seenLsn > lastLsn ? seenLsn : lastLsn;
        return this.#isSettled(lsn) ? null : this.#settle(lsn, undefined);
      },
      contended: (limits) => this.#contended(limits),
      parking: () => this.#park(),
      unparked: () => this.#unpark(),
      closed: () => {
        this.#unpark();
        this.release();
      },
    };
  }

  #park(): void {
    const parked = new ParkedRevision(this.#mainFile().target);
    this.#context.parked = parked;
    this.#engine.state.holders.add(parked);
  }

  #unpark(): void {
    const { parked } = this.#context;
    if (parked === null) return;
    this.#context.parked = null;
    this.#engine.state.holders.delete(parked);
  }

  /** See CallHooks. */
  async #contended({ isAgain, ...limits }: ContentionLimits): Promise<(() => void) | null> {
    const context = this.#context;
    const timeline = context.blockedOn;
    context.blockedOn = null;
    if (timeline === null) return null;
    for (const file of context.files) if (file.isBound) return null; // Waiting would not help.
    const isNext = await timeline.queue.wait(context, limits, isAgain);
    return isNext ? () => timeline.queue.done(context) : null;
  }

  /** See StoreConnection.durably. */
  durably<T>(body: () => T): Promise<T> {
    const context = this.#context;
    const wasDeferred = context.isDeferred;
    context.isDeferred = true;
    let result: T;
    try {
      result = body();
    } catch (error) {
      // What the body threw, as it is.
      // oxlint-disable-next-line typescript/prefer-promise-reject-errors
      return Promise.reject(error);
    } finally {
      context.isDeferred = wasDeferred;
    }
    const { lastLsn } = context;
    return this.#isSettled(lastLsn) ? Promise.resolve(result) : this.#settle(lastLsn, result);
  }

  #isSettled(lsn: number): boolean {
    return lsn <= this.#settledLsn || (!this.#isRemote && lsn <= this.#engine.state.log.durableLsn);
  }

  /**
   * Resolves when the log up to `lsn` is as durable as the connection asks. One promise for each call, none in between: they are a
   * part of what a commit costs when many are in flight.
   */
  #settle<T>(lsn: number, result: T): Promise<T> {
    const { log } = this.#engine.state;
    if (this.#isRemote) return this.#settleRemote(lsn, result);
    if (lsn <= log.durableLsn) return Promise.resolve(this.#settled(lsn, result));
    return log.flush(lsn).then(() => this.#settled(lsn, result));
  }

  async #settleRemote<T>(lsn: number, result: T): Promise<T> {
    const { log } = this.#engine.state;
    if (lsn > log.durableLsn) await log.flush(lsn);
    await this.#engine.uploads?.wait(lsn);
    return this.#settled(lsn, result);
  }

  #settled<T>(lsn: number, result: T): T {
    this.#settledLsn = Math.max(this.#settledLsn, lsn);
    return result;
  }

  /** The connection is closed. */
  release(): void {
    this.connection = null;
    this.asyncConnection = null;
    this.#onRelease(this);
    const { onReleased } = this;
    this.onReleased = null;
    onReleased?.();
  }

  #mainFile(): RevisionFile {
    // The first file that was opened: attached ones come later, and sets keep their order.
    const [main] = this.#context.files;
    return main!;
  }
}
