import type { StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { checkContinuity, type FoundSegment, readSegmentHeader } from "./log-recovery.ts";
import { listSegments, type SegmentName } from "./segment-files.ts";
import { logDamage, type SegmentEnd, SegmentScanner } from "./segment-scanner.ts";

export interface LogReaderOptions {
  readonly storage: Storage;
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** The checkpoint's LSN: segments that end before it are left out, as in recovery (Y1). */
  readonly afterLsn: number;
}

export type LogEntry =
  | { readonly type: "segment"; readonly segment: string; readonly firstLsn: number }
  | {
      readonly type: "record";
      readonly segment: string;
      readonly offset: number;
      readonly lsn: number;
      readonly kind: number;
      /** Valid until the next entry is asked for. */
      readonly payload: Uint8Array;
    }
  | {
      readonly type: "end";
      readonly segment: string;
      readonly lastLsn: number;
      readonly how: SegmentEnd;
    }
  /** Reading goes on with the next segment; records after the damage in this one are not reported. */
  | { readonly type: "damage"; readonly segment: string; readonly error: StoreError };

/**
 * Every segment and record of a log, and all damage instead of the first only: for `check`. Changes nothing. Errors that
 * are not about the log's contents (a read that fails, a key that is missing) are thrown.
 */
export class LogReader {
  private readonly options: LogReaderOptions;

  constructor(options: LogReaderOptions) {
    this.options = options;
  }

  *entries(): Generator<LogEntry, void, undefined> {
    const found = this.findSegments();
    let reached: number | null = found.length === 0 ? 0 : null;
    for (const [index, item] of found.entries()) {
      reached = null;
      const segment = item.name.path;
      if (item.error !== null) {
        yield { type: "damage", segment, error: item.error };
        continue;
      }
      const after = found[index + 1];
      const next = after?.error === null ? after.segment : null;
      try {
        if (index === 0) this.checkStart(item.segment);
        if (next !== null) checkContinuity(item.segment, next);
        reached = yield* this.readSegment(item.segment, next);
      } catch (error) {
        yield { type: "damage", segment, error: asDamage(error) };
      }
    }
    if (reached !== null && reached < this.options.afterLsn) {
      const segment = found.at(-1)?.name.path ?? "log";
      const text = `the log ends at LSN ${reached}, the checkpoint is at ${this.options.afterLsn}`;
      yield { type: "damage", segment, error: logDamage(segment, 0, text) };
    }
  }

  private *readSegment(
    segment: FoundSegment,
    next: FoundSegment | null,
  ): Generator<LogEntry, number, undefined> {
    const { path } = segment.name;
    const { header } = segment;
    yield { type: "segment", segment: path, firstLsn: header.firstLsn };
    const file = this.options.storage.openFileSync(path, { mode: "read" });
    try {
      const { cipher } = this.options;
      const scanner = new SegmentScanner({ file, header, cipher, next: next?.header ?? null });
      for (let record = scanner.next(); record !== null; record = scanner.next()) {
        const { offset, lsn, kind } = record;
        const payload = scanner.payload(record);
        yield { type: "record", segment: path, offset, lsn, kind, payload };
      }
      yield { type: "end", segment: path, lastLsn: scanner.lastLsn, how: scanner.end ?? "torn" };
      return scanner.lastLsn;
    } finally {
      file.closeSync();
    }
  }

  private checkStart(segment: FoundSegment): void {
    if (segment.header.firstLsn <= this.options.afterLsn + 1) return;
    const text = `the log starts at LSN ${segment.header.firstLsn}, records from ${this.options.afterLsn + 1} on are missing`;
    throw logDamage(segment.name.path, 0, text);
  }

  private findSegments(): Found[] {
    const { storage, storeId, afterLsn } = this.options;
    const found: Found[] = [];
    for (const name of listSegments(storage).toReversed()) {
      const segment = tryReadHeader(storage, name, storeId);
      found.unshift(segment);
      if (segment.error === null && segment.segment.header.firstLsn <= afterLsn + 1) break;
    }
    return found;
  }
}

type Found =
  | { readonly name: SegmentName; readonly error: null; readonly segment: FoundSegment }
  | { readonly name: SegmentName; readonly error: StoreError };

function tryReadHeader(storage: Storage, name: SegmentName, storeId: Uint8Array): Found {
  try {
    const header = readSegmentHeader(storage, name, storeId);
    return { name, error: null, segment: { name, header } };
  } catch (error) {
    return { name, error: asDamage(error) };
  }
}

function asDamage(error: unknown): StoreError {
  const isDamage = error instanceof StoreError && DAMAGE_CODES.has(error.code);
  if (!isDamage) throw error;
  return error;
}

const DAMAGE_CODES: ReadonlySet<string> = new Set(["CORRUPT_LOG", "STORE_FORMAT"]);
