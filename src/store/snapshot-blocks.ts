/**
 * A snapshot as the bytes of a plain SQLite file, block after block, the lock page as zeros.
 *
 * L1. The snapshot is held until `close`, however long the reader takes: it reads the same to the end.
 */
import { readFetching, NotLocalError } from "../storage/not-local.ts";
import { lockPageNumber, type Snapshot } from "../transaction/snapshot.ts";
import type { Engine } from "./engine.ts";
import { findRevision, headOf } from "./resolve-revision.ts";

export class SnapshotBlocks {
  readonly version: number;
  /** Bytes. */
  readonly pageSize: number;
  readonly pageCount: number;
  readonly #snapshot: Snapshot;
  readonly #release: () => void;
  #isClosed = false;

  constructor(snapshot: Snapshot) {
    this.version = snapshot.version;
    this.pageCount = snapshot.pageCount;
    this.pageSize = snapshot.view.context.pageSize;
    this.#snapshot = snapshot;
    this.#release = snapshot.hold();
  }

  /** Of a revision as it is now. Throws what keeps it from being found. */
  static async open(engine: Engine, revision: string): Promise<SnapshotBlocks> {
    return await readFetching(() => {
      const { database, branch, snapshot } = findRevision(engine, revision);
      return new SnapshotBlocks(snapshot ?? headOf(database, branch));
    });
  }

  /** Bytes of the whole. */
  get size(): number {
    return this.pageCount * this.pageSize;
  }

  /** Fills `target`, of which it is a multiple of the page size, from that page on; returns how many bytes there were. */
  async read(firstPage: number, target: Uint8Array, signal?: AbortSignal): Promise<number> {
    const { pageSize } = this;
    const count = Math.min(target.length / pageSize, this.pageCount - firstPage + 1);
    const lockPage = lockPageNumber(pageSize);
    for (let index = 0; index < count; index++) {
      const page = firstPage + index;
      const start = index * pageSize;
      if (page === lockPage) target.fill(0, start, start + pageSize);
      else {
        const bytes = this.#page(page, signal);
        target.set(bytes instanceof Promise ? await bytes : bytes, start);
      }
    }
    return Math.max(0, count) * pageSize;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Without a promise where the page is local, as nearly all are. */
  #page(number: number, signal: AbortSignal | undefined): Uint8Array | Promise<Uint8Array> {
    try {
      return this.#snapshot.page(number);
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      return readFetching(
        () => this.#snapshot.page(number),
        signal === undefined ? {} : { signal },
      );
    }
  }
}
