/** The pages of a checkpointed snapshot: page map, then chunk. */
import { StoreError } from "../errors.ts";
import type { ChunkReference } from "../page/chunk-handle.ts";
import type { ChunkStore } from "../page/chunk-store.ts";
import type { PageMap, PageMapRoot } from "../page/page-map.ts";
import { NotLocalError } from "../storage/not-local.ts";
import type { PageSource } from "./snapshot.ts";
import type { Tracer } from "./tracer.ts";

export interface RootReader {
  readonly pageMap: PageMap;
  readonly chunks: ChunkStore;
  readonly pageSize: number;
}

export class RootSource implements PageSource {
  readonly root: PageMapRoot;
  readonly #reader: RootReader;

  constructor(root: PageMapRoot, reader: RootReader) {
    this.root = root;
    this.#reader = reader;
  }

  page(pageNumber: number): Uint8Array {
    const reference = this.#reader.pageMap.lookup(this.root, pageNumber);
    if (reference !== null) return this.#reader.chunks.readPage(reference, this.#reader.pageSize);
    throw new StoreError(
      "CORRUPT_NODE",
      `Cannot read page ${pageNumber}: the page map of ${this.root.pageCount} pages has no entry for it`,
    );
  }

  cachedPage(pageNumber: number): Uint8Array | null {
    let reference: ChunkReference | null;
    try {
      reference = this.#reader.pageMap.lookup(this.root, pageNumber);
    } catch (error) {
      if (error instanceof NotLocalError) return null;
      throw error;
    }
    if (reference === null) return null;
    return this.#reader.chunks.cachedPage(reference, this.#reader.pageSize);
  }

  chunkOf(pageNumber: number): ChunkReference | null {
    return this.#reader.pageMap.lookup(this.root, pageNumber);
  }

  origin(): { root: PageMapRoot; changedPages: Iterable<number> } {
    return { root: this.root, changedPages: [] };
  }

  trace(tracer: Tracer): void {
    tracer.root(this.root);
  }
}
