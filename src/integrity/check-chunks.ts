/**
 * Checks chunks: where the index says they are, whole, and (deep) with the id and the pages that they are known by.
 *
 * Z1. Each chunk is read once, however many page maps refer to it.
 * Z2. Deep: every row of the page index names a slot whose page has that hash; otherwise a later page of that content would
 *     be stored as a reference to another one.
 */
import { scanCatalog } from "../catalog/catalog-scan.ts";
import { type Catalog, type ChunkPlace, Table } from "../catalog/catalog.ts";
import type { StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { DecodedChunk } from "../page/chunk-format.ts";
import { type ChunkHandle, type ChunkHandles, idKey } from "../page/chunk-handle.ts";
import type { ChunkStore } from "../page/chunk-store.ts";
import {
  checkPackHeader,
  PACK_DIRECTORY,
  PACK_HEADER_SIZE,
  packNumber,
} from "../page/pack-format.ts";
import { pageHash } from "../page/page-hash.ts";
import type { Storage } from "../storage/storage.ts";
import { type Findings, nextTurn, type Problem } from "./report.ts";

export interface ChunkCheckParts {
  readonly catalog: Catalog;
  readonly chunks: ChunkStore;
  readonly handles: ChunkHandles;
  readonly cipher: StoreCipher | null;
  /** What the index says; throws CORRUPT_CATALOG. */
  readonly locate: (id: Uint8Array) => ChunkPlace | undefined;
  readonly findings: Findings;
  readonly deep: boolean;
}

/** What is known of a chunk once it was read. */
interface CheckedChunk {
  readonly problem: Problem | null;
  readonly pageSize: number;
  readonly slotCount: number;
  readonly present: bigint;
  /** Those that something refers to, when there is a problem. */
  readonly lostSlots: Set<number>;
}

export class ChunkChecker {
  readonly #parts: ChunkCheckParts;
  readonly #checked: Map<string, CheckedChunk> = new Map();
  /** Rows of the page index that were found right (Z2). */
  #confirmedPages = 0;

  constructor(parts: ChunkCheckParts) {
    this.#parts = parts;
  }

  /** Null when the slot holds a page of this size. */
  slotProblem(chunk: ChunkHandle, slot: number, pageSize: number): Problem | null {
    const checked = this.#check(chunk.id, chunk.key);
    if (checked.problem !== null) {
      if (!checked.lostSlots.has(slot)) checked.problem.pages = (checked.problem.pages ?? 0) + 1;
      checked.lostSlots.add(slot);
      return checked.problem;
    }
    const isPresent = slot < checked.slotCount && ((checked.present >> BigInt(slot)) & 1n) === 1n;
    if (isPresent && checked.pageSize === pageSize) return null;
    const fact =
      checked.pageSize === pageSize
        ? `slot ${slot} of ${checked.slotCount} holds no page`
        : `its pages have ${checked.pageSize} bytes instead of ${pageSize}`;
    const problem = this.#parts.findings.add(
      "CORRUPT_CHUNK",
      `Cannot read page in chunk ${chunk.name}: ${fact}`,
    );
    problem.subjects.push({ kind: "chunk", id: chunk.id });
    problem.pages ??= 1;
    return problem;
  }

  /** Chunks that no page map led to: garbage, or used by the history alone. */
  async checkOthers(
    rows: ReadonlyMap<string, Uint8Array>,
    onProgress: (done: number) => void,
  ): Promise<void> {
    let count = 0;
    for (const [key, id] of rows) {
      // Garbage collection may have freed it since the rows were read.
      if (this.#checked.has(key) || this.#isIndexed(id)) this.#check(id, key);
      if (++count % 16 !== 0) continue;
      onProgress(count);
      await nextTurn();
    }
  }

  /** Z2; `rowCount` rows of the page index were read. */
  async checkPageIndex(rowCount: number): Promise<void> {
    const { deep, catalog } = this.#parts;
    if (!deep || rowCount === this.#confirmedPages) return;
    let count = 0;
    for (const row of scanCatalog(catalog.store)) {
      if (row.kind === "page") this.#checkPageRow(row.hash, row.place);
      if (++count % 4096 === 0) await nextTurn();
    }
  }

  /** True also where the index cannot say. */
  #isIndexed(id: Uint8Array): boolean {
    try {
      return this.#parts.locate(id) !== undefined;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return true;
    }
  }

  #check(id: Uint8Array, key: string): CheckedChunk {
    const known = this.#checked.get(key);
    if (known !== undefined) return known;
    const checked = this.#read(id);
    this.#checked.set(key, checked);
    return checked;
  }

  #read(id: Uint8Array): CheckedChunk {
    const { findings, deep } = this.#parts;
    findings.counts.chunks++;
    try {
      const chunk = this.#load(id, deep);
      if (deep) this.#confirmPages(id, chunk);
      const { pageSize, slotCount, present } = chunk;
      return { problem: null, pageSize, slotCount, present, lostSlots: new Set() };
    } catch (error) {
      const problem = findings.addDamage({ kind: "chunk", id: Uint8Array.from(id) }, error);
      problem.pages ??= 0;
      return { problem, pageSize: 0, slotCount: 0, present: 0n, lostSlots: new Set() };
    }
  }

  /** Garbage collection may move a chunk while it is read: what counts is its place after the read failed. */
  #load(id: Uint8Array, verifyId: boolean): DecodedChunk {
    const { chunks, locate } = this.#parts;
    let place = locate(id);
    for (;;) {
      if (place === undefined) throw notIndexed(id);
      try {
        return chunks.readChunk(id, place, { verifyId });
      } catch (error) {
        const now = locate(id);
        if (now !== undefined && isSamePlace(now, place)) throw error;
        place = now;
      }
    }
  }

  #confirmPages(id: Uint8Array, chunk: DecodedChunk): void {
    const { catalog, cipher, findings } = this.#parts;
    for (let slot = 0; slot < chunk.slotCount; slot++) {
      const page = chunk.page(slot);
      if (page === null) continue;
      try {
        const place = catalog.page(pageHash(page, cipher));
        if (place?.slot === slot && Buffer.compare(place.chunkId, id) === 0) this.#confirmedPages++;
      } catch (error) {
        findings.addError(error);
      }
    }
  }

  #checkPageRow(hash: Uint8Array, { chunkId, slot }: { chunkId: Uint8Array; slot: number }): void {
    const { cipher, findings } = this.#parts;
    if (this.#check(chunkId, idKey(chunkId)).problem !== null) return;
    const page = this.#load(chunkId, false).page(slot);
    if (page !== null && Buffer.compare(pageHash(page, cipher), hash) === 0) return;
    findings
      .add(
        "CORRUPT_CATALOG",
        `Cannot use the page index: page ${Buffer.from(hash).toString("hex")} is not in slot ${slot} of chunk ${Buffer.from(chunkId).toString("hex")}`,
      )
      .subjects.push({ kind: "row", key: Uint8Array.of(Table.pageHash, ...hash) });
  }
}

function notIndexed(id: Uint8Array): StoreError {
  const chunk = Buffer.from(id).toString("hex");
  return new StoreError(
    "CORRUPT_CHUNK",
    `Cannot read chunk ${chunk}: the chunk index does not have it`,
    { details: { chunk } },
  );
}

function isSamePlace(left: ChunkPlace, right: ChunkPlace): boolean {
  return left.pack === right.pack && left.offset === right.offset && left.length === right.length;
}

/** Header of each pack file, also of those that no chunk is known in. */
export function checkPacks(storage: Storage, storeId: Uint8Array, findings: Findings): void {
  for (const name of storage.listSync(PACK_DIRECTORY)) {
    const number = packNumber(name);
    if (number === null) continue;
    findings.counts.packs++;
    try {
      const file = storage.openFileSync(`${PACK_DIRECTORY}/${name}`, { mode: "read" });
      try {
        // A crash right after its creation leaves a pack without a byte: nothing refers to it.
        if (file.sizeSync() === 0) continue;
        const header = new Uint8Array(PACK_HEADER_SIZE);
        const count = file.readSync(0, header);
        // The same when the bytes were lost and the size was not; a chunk in such a pack is damage by itself.
        if (header.every((byte) => byte === 0)) continue;
        checkPackHeader(header.subarray(0, count), { storeId, number });
      } finally {
        file.closeSync();
      }
    } catch (error) {
      // A pack without chunks is deleted while others read.
      if (error instanceof StoreError && error.code === "FILE_NOT_FOUND") continue;
      findings.addDamage({ kind: "pack", number }, error);
    }
  }
}
