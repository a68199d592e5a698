/**
 * Reads everything that a store has in packs and history again, past the page cache and at a set rate, so that a disk that
 * forgets is noticed while there is another copy. The store goes on meanwhile; one chunk is read at a time.
 *
 *   chunks in the order of their ids -> history segments in the order of their numbers -> if something is damaged: who uses it
 *
 * K1. Everything that was there when a scrub began, and still is when its turn comes, is read once.
 * K2. Damage is what is so at the second look: garbage collection may have moved or freed what was read.
 * K3. Nothing is written. Where a scrub was is a position that the caller may keep.
 */
import { type ChunkPlace, decodeChunkPlace, Table } from "../catalog/catalog.ts";
import { openValue } from "../catalog/record-codec.ts";
import { openHistoryFile } from "../checkpoint/history-files.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { type ChunkHandle, idKey } from "../page/chunk-handle.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { scanRows } from "./check-catalog.ts";
import { checkPacks } from "./check-chunks.ts";
import { checkRoots } from "./check.ts";
import type { Pace } from "./pace.ts";
import { hexOf } from "./repair-plan.ts";
import { type CheckReport, Findings, type Problem } from "./report.ts";
import { RevisionIndex } from "./revision-index.ts";

export interface ScrubProgress {
  /** Read so far. */
  readonly bytes: number;
  /** What was read last, as `startAfter` takes it. */
  readonly position: string;
}

export interface ScrubOptions {
  /** 50,000,000 by default; Infinity: as fast as other work leaves time. */
  readonly bytesPerSecond?: number | undefined;
  /** Ends the scrub early; its report says so far. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: ScrubProgress) => void) | undefined;
  /** Goes on after this position of an earlier scrub. */
  readonly startAfter?: string | undefined;
}

export interface ScrubReport extends CheckReport {
  readonly bytes: number;
  /** Null: the scrub came to its end. Otherwise `startAfter` goes on from here. */
  readonly stoppedAt: string | null;
}

export const SCRUB_BYTES_PER_SECOND = 50_000_000;

const CHUNKS_PER_LOOK = 64;
const ID_SIZE = 16;

export async function scrubParts(
  parts: StoreParts,
  options: ScrubOptions & { readonly pace: Pace },
): Promise<ScrubReport> {
  const scrub = new Scrub(parts, options);
  const isComplete = await scrub.run();
  return await scrub.report(isComplete);
}

class Scrub {
  readonly #parts: StoreParts;
  readonly #options: ScrubOptions & { readonly pace: Pace };
  readonly #findings = new Findings();
  readonly #lost: Map<string, Problem> = new Map();
  #bytes = 0;
  #position: string;

  constructor(parts: StoreParts, options: ScrubOptions & { readonly pace: Pace }) {
    this.#parts = parts;
    this.#options = options;
    this.#position = options.startAfter ?? "chunk/";
    if (!/^(?:chunk\/(?:[0-9a-f]{32})?|history\/\d+)$/.test(this.#position))
      throw new RangeError(`Option "startAfter": "${this.#position}" is no position of a scrub`);
  }

  /** False when it was stopped. */
  async run(): Promise<boolean> {
    const [kind = "", after = ""] = this.#position.split("/");
    if (kind === "chunk") {
      checkPacks(this.#parts.storage, this.#parts.storeId, this.#findings);
      if (!(await this.#readChunks(Uint8Array.from(Buffer.from(after, "hex"))))) return false;
    }
    return await this.#readHistory(kind === "history" ? Number(after) : 0);
  }

  async report(isComplete: boolean): Promise<ScrubReport> {
    if (this.#findings.hasProblems) await this.#nameRevisions();
    const stoppedAt = isComplete ? null : this.#position;
    return { ...this.#findings.report(), bytes: this.#bytes, stoppedAt };
  }

  async #readChunks(after: Uint8Array): Promise<boolean> {
    const { store } = this.#parts.catalog;
    const end = Uint8Array.of(Table.chunk + 1);
    // The key after the id before: one byte more.
    let start = Uint8Array.of(Table.chunk, ...after, ...(after.length === ID_SIZE ? [0] : []));
    for (;;) {
      const ids: Uint8Array[] = [];
      for (const { key } of store.range({ start, end, limit: CHUNKS_PER_LOOK }))
        ids.push(Uint8Array.from(key.subarray(1)));
      for (const id of ids) {
        const bytes = this.#readChunk(id);
        if (!(await this.#goOn(`chunk/${hexOf(id)}`, bytes))) return false;
      }
      const last = ids.at(-1);
      if (last === undefined) return true;
      start = Uint8Array.of(Table.chunk, ...last, 0);
    }
  }

  /** Returns the bytes read. */
  #readChunk(id: Uint8Array): number {
    this.#findings.counts.chunks++;
    for (;;) {
      let place: ChunkPlace | null = null;
      try {
        place = this.#placeOf(id);
        if (place === null) return 0;
        this.#parts.chunks.readChunk(id, place, { verifyId: true });
        return place.length;
      } catch (error) {
        if (error instanceof StoreError && error.code === "STORE_CLOSED") throw error;
        if (place !== null && !this.#isStillAt(id, place)) continue; // K2
        const problem = this.#findings.addDamage({ kind: "chunk", id }, error);
        problem.pages ??= 0;
        this.#lost.set(idKey(id), problem);
        return place?.length ?? 0;
      }
    }
  }

  #isStillAt(id: Uint8Array, { pack, offset }: ChunkPlace): boolean {
    const now = this.#placeOf(id);
    return now?.pack === pack && now.offset === offset;
  }

  /** Null when garbage collection has freed the chunk. */
  #placeOf(id: Uint8Array): ChunkPlace | null {
    const key = Uint8Array.of(Table.chunk, ...id);
    const sealed = this.#parts.catalog.store.get(key);
    return sealed === undefined ? null : decodeChunkPlace(openValue(key, sealed, "a chunk"));
  }

  async #readHistory(after: number): Promise<boolean> {
    const segments = [...this.#parts.catalog.historySegments()].sort(
      (left, right) => left.segment - right.segment,
    );
    for (const { segment, size } of segments) {
      if (segment <= after) continue;
      if (!(await this.#readSegment(segment))) return false;
      if (!(await this.#goOn(`history/${segment}`, size))) return false;
    }
    return true;
  }

  async #readSegment(segment: number): Promise<boolean> {
    const { storage, storeId, cipher, catalog } = this.#parts;
    this.#findings.counts.historySegments++;
    try {
      const file = openHistoryFile(storage, segment);
      try {
        const reader = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
        for (const _ of reader.entries()) {
          if (++this.#findings.counts.historyEntries % 1024 !== 0) continue;
          await this.#options.pace.spend(0, this.#options.signal);
          if (this.#options.signal?.aborted === true) return false;
        }
      } finally {
        file.closeSync();
      }
    } catch (error) {
      for (const row of catalog.historySegments())
        if (row.segment === segment) this.#findings.addDamage({ kind: "history", segment }, error);
    }
    return true;
  }

  /** False when the scrub is to stop after this. */
  async #goOn(position: string, bytes: number): Promise<boolean> {
    const { pace, signal, onProgress } = this.#options;
    this.#position = position;
    this.#bytes += bytes;
    onProgress?.({ bytes: this.#bytes, position });
    await pace.spend(bytes, signal);
    return signal?.aborted !== true;
  }

  /** Damage is rare, and says little without the revisions that it touches: only then all page maps are walked. */
  async #nameRevisions(): Promise<void> {
    if (this.#options.signal?.aborted === true) return;
    const parts = this.#parts;
    const findings = this.#findings;
    const contents = await scanRows(parts, findings, () => {});
    const index = new RevisionIndex(contents, parts.refs);
    const slots = new Map<Problem, Set<string>>();
    const chunks = {
      slotProblem: (chunk: ChunkHandle, slot: number): Problem | null => {
        const problem = this.#lost.get(chunk.key) ?? null;
        if (problem === null) return null;
        const seen = slots.get(problem) ?? new Set();
        slots.set(problem, seen.add(`${chunk.key}${slot}`));
        problem.pages = seen.size;
        return problem;
      },
    };
    await checkRoots({ parts, findings, index, chunks, onProgress: () => {}, isOpen: true });
    for (const { subjects, revisions } of findings.problems())
      for (const subject of subjects)
        if (subject.kind === "history")
          for (const revision of index.ofSegment(subject.segment)) revisions.add(revision);
  }
}
