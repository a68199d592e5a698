/**
 * Looks for single pages of lost chunks, by their hashes, wherever the store holds pages: other chunks, images in the history,
 * frames in the log. Reads all of it, so it is the last thing that a repair tries.
 */
import { scanCatalog } from "../catalog/catalog-scan.ts";
import type { ChunkPlace } from "../catalog/catalog.ts";
import { historyPath, openHistoryFile } from "../checkpoint/history-files.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { LogReader } from "../log/log-reader.ts";
import { idKey } from "../page/chunk-handle.ts";
import { HistoryKind } from "../page/history-format.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { packPath } from "../page/pack-format.ts";
import { pageHash } from "../page/page-hash.ts";
import { decodeCommitRecord } from "../transaction/commit-record.ts";
import { FrameKind } from "../transaction/page-versions.ts";
import type { LostChunk } from "./lost-chunk.ts";
import { nextTurn } from "./report.ts";

/** Gives the chunks what is found of them. `lost` are chunks not to be looked into. */
export async function findPages(
  parts: StoreParts,
  incomplete: readonly LostChunk[],
  lost: ReadonlySet<string>,
): Promise<void> {
  const search = new PageSearch(parts, incomplete);
  search.offerZeros();
  for (const look of [search.inChunks(lost), search.inHistory(), search.inLog()]) {
    let count = 0;
    for (const _ of look) {
      if (search.isOver) return;
      if (++count % 16 === 0) await nextTurn();
    }
  }
}

class PageSearch {
  readonly #parts: StoreParts;
  readonly #wanted: Map<string, { chunk: LostChunk; slot: number }[]> = new Map();

  constructor(parts: StoreParts, incomplete: readonly LostChunk[]) {
    this.#parts = parts;
    for (const chunk of incomplete) {
      for (const [slot, hash] of chunk.hashes) {
        if (chunk.pages.has(slot)) continue;
        const key = idKey(hash);
        this.#wanted.set(key, [...(this.#wanted.get(key) ?? []), { chunk, slot }]);
      }
    }
  }

  get isOver(): boolean {
    return this.#wanted.size === 0;
  }

  offerZeros(): void {
    for (let size = 512; size <= 65_536; size *= 2) this.#offer(new Uint8Array(size), "zeros");
  }

  *inChunks(lost: ReadonlySet<string>): Generator<void> {
    const places: { id: Uint8Array; place: ChunkPlace }[] = [];
    for (const row of scanCatalog(this.#parts.catalog.store))
      if (row.kind === "chunk" && !lost.has(idKey(row.id)))
        places.push({ id: Uint8Array.from(row.id), place: row.place });
    for (const { id, place } of places) {
      yield;
      try {
        const chunk = this.#parts.chunks.readChunk(id, place);
        for (let slot = 0; slot < chunk.slotCount; slot++) {
          const page = chunk.page(slot);
          if (page !== null) this.#offer(page, packPath(place.pack));
        }
      } catch (error) {
        passOver(error);
      }
    }
  }

  *inHistory(): Generator<void> {
    const { storage, storeId, cipher, catalog } = this.#parts;
    const segments: number[] = [];
    for (const row of scanCatalog(catalog.store))
      if (row.kind === "history") segments.push(row.segment);
    for (const segment of segments) {
      yield;
      try {
        const file = openHistoryFile(storage, segment);
        try {
          const reader = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
          for (const { kind, payload } of reader.entries())
            if (kind === HistoryKind.image) this.#offer(payload, historyPath(segment));
        } finally {
          file.closeSync();
        }
      } catch (error) {
        passOver(error);
      }
    }
  }

  *inLog(): Generator<void> {
    const { storage, storeId, cipher } = this.#parts;
    try {
      for (const entry of new LogReader({ storage, storeId, cipher, afterLsn: 0 }).entries()) {
        yield;
        if (entry.type !== "record") continue;
        const record = decodeCommitRecord(entry.kind, entry.payload, entry.lsn);
        for (const { frames } of record?.parts ?? [])
          for (const { kind, bytes } of frames)
            if (kind === FrameKind.image) this.#offer(bytes, entry.segment);
      }
    } catch (error) {
      passOver(error);
    }
  }

  #offer(page: Uint8Array, origin: string): void {
    const key = idKey(pageHash(page, this.#parts.cipher));
    const uses = this.#wanted.get(key);
    if (uses === undefined) return;
    for (const { chunk, slot } of uses) chunk.takePage(slot, page, origin);
    this.#wanted.delete(key);
  }
}

/** What is damaged here is another finding of the check. */
function passOver(error: unknown): void {
  if (!(error instanceof StoreError)) throw error;
}
