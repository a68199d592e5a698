/**
 * Instances of SQLite for connections that are awaited: each has its own (Z2 in suspension.ts), used again when it is closed.
 * A new one takes about 2 ms.
 */
import { SqliteRuntime } from "../sqlite/runtime.ts";
import type { Vfs } from "../sqlite/vfs.ts";

const IDLE_MAX = 8;
/** One that has grown past this keeps its memory: it is left to the garbage collector. */
const IDLE_BYTES_MAX = 32 * 1024 * 1024;

export class RuntimePool {
  readonly #vfs: Vfs;
  readonly #now: () => number;
  readonly #idle: SqliteRuntime[] = [];

  constructor(vfs: Vfs, now: () => number) {
    this.#vfs = vfs;
    this.#now = now;
  }

  take(): SqliteRuntime {
    const idle = this.#idle.pop();
    return idle ?? new SqliteRuntime({ vfs: this.#vfs, now: this.#now, suspends: true });
  }

  /** One that failed, or still has a connection, is forgotten. */
  give(runtime: SqliteRuntime): void {
    const isClean = !runtime.hasFailed && runtime.connections.size === 0;
    const isSmall = runtime.heap.u8.length <= IDLE_BYTES_MAX;
    if (isClean && isSmall && this.#idle.length < IDLE_MAX) this.#idle.push(runtime);
  }
}
