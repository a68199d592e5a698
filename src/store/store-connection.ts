/** A connection on a revision of a store: better-sqlite3's API, and commits that are awaited. */
import { Connection } from "../sqlite/connection.ts";
import type { SqliteRuntime } from "../sqlite/runtime.ts";
import type { Durability } from "../transaction/commit-pipeline.ts";
import { ConnectionContext, type RevisionFile } from "../transaction/revision-file.ts";
import type { Engine } from "./engine.ts";

export interface ConnectOptions {
  /** Refuse writes. Revisions with "@" are read-only anyway. */
  readonly readonly?: boolean;
  /** What a commit survives when it returns; the store's by default. PRAGMA synchronous changes it. */
  readonly durability?: Durability;
  /** Called with the SQL of each statement before it runs. */
  readonly verbose?: ((...parameters: unknown[]) => unknown) | null;
}

export class StoreConnection extends Connection {
  readonly #engine: Engine;
  readonly #context: ConnectionContext;
  readonly #onClose: (connection: StoreConnection) => void;

  /** @internal */
  constructor(options: {
    engine: Engine;
    runtime: SqliteRuntime;
    revision: string;
    displayName?: string;
    pageSize: number;
    connect: ConnectOptions;
    onClose: (connection: StoreConnection) => void;
  }) {
    const { engine, revision, connect } = options;
    const context = new ConnectionContext(connect.durability ?? engine.options.durability);
    super(options.runtime, {
      name: revision,
      displayName: options.displayName ?? revision,
      readonly: connect.readonly ?? false,
      fileMustExist: true,
      pageSize: options.pageSize,
      owner: context,
      verbose: connect.verbose ?? null,
    });
    this.#engine = engine;
    this.#context = context;
    this.#onClose = options.onClose;
    const describe = (value: (file: RevisionFile) => string | number): (() => string | number) => {
      return () => value(this.#mainFile());
    };
    this.function("bough_database", describe((file) => file.target.database));
    this.function("bough_branch", describe((file) => file.target.branch));
    this.function("bough_version", describe((file) => file.snapshot.version));
  }

  /**
   * Runs `body` now; the promise resolves with its result once every commit that it made is durable. Many of these in
   * flight share one write and sync. Rejects when `body` throws, or when the log fails: then the outcome is known only
   * after the store was opened again. Others can see the commits before they are durable.
   */
  async durably<T>(body: () => T): Promise<T> {
    const context = this.#context;
    const wasDeferred = context.isDeferred;
    context.isDeferred = true;
    let result: T;
    try {
      result = body();
    } finally {
      context.isDeferred = wasDeferred;
    }
    const { log } = this.#engine.state;
    if (context.lastLsn > log.durableLsn) await log.flush();
    return result;
  }

  override close(): this {
    const wasOpen = this.open;
    super.close();
    if (wasOpen) this.#onClose(this);
    return this;
  }

  #mainFile(): RevisionFile {
    // The first file that was opened: attached ones come later, and sets keep their order.
    const [main] = this.#context.files;
    return main!;
  }
}
