/**
 * Mends a damaged log, or cuts it off before the damage when told to.
 *
 * T1. A segment is mended by the bytes that the source has of the very same file (the same salt), up to where its records end
 *     there; what was written here after that stays. It takes the place of the damaged one only when it reads without damage
 *     and meets the segment after it: no record that was acknowledged is lost by that.
 * T2. Cutting off gives up commits, so it is done only when asked for. The files with what is given up are kept as
 *     `<name>.damaged`; the last step is the one after which the log opens.
 */
import { randomFillSync } from "node:crypto";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { LogReader } from "../log/log-reader.ts";
import { emptyChain, readSegmentHeader } from "../log/log-recovery.ts";
import { fileSizeFor, listSegments, LOG_DIRECTORY, segmentPath } from "../log/segment-files.ts";
import {
  decodeSegmentHeader,
  END_RECORD_SIZE,
  encodeSegmentHeader,
  SALT_SIZE,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
} from "../log/segment-format.ts";
import { SegmentScanner } from "../log/segment-scanner.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync } from "../storage/whole-file.ts";
import { asideName, keepAside, replaceFile, writeWhole } from "./repair-files.ts";
import type { RepairPlan } from "./repair-plan.ts";
import type { RepairSource } from "./repair-source.ts";

export interface LogRepairParts {
  readonly parts: StoreParts;
  readonly plan: RepairPlan;
  readonly source: RepairSource | null;
  readonly truncateLog: boolean;
  readonly nowMs: number;
}

/** Room for the records of a log that begins again. */
const FRESH_RECORD_BYTES = 60 * 1024;

export async function repairLog(repair: LogRepairParts): Promise<void> {
  const { parts, plan, source, truncateLog } = repair;
  const afterLsn = checkpointLsn(parts);
  if (afterLsn === null) return; // Where the log is to go on from is not known before the catalog is mended.
  if (source !== null) await mendSegments(repair, source, afterLsn);
  const cut = findCut(parts, afterLsn);
  if (cut === null) return;
  if (truncateLog) truncate(repair, cut, afterLsn);
  else plan.refuse(refusal(cut));
}

function checkpointLsn({ catalog }: StoreParts): number | null {
  try {
    return catalog.state()?.checkpointLsn ?? 0;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return null;
  }
}

/** T1, from the newest segment on: each is compared with the one after it. */
async function mendSegments(
  { parts, plan }: LogRepairParts,
  source: RepairSource,
  afterLsn: number,
): Promise<void> {
  const { storage, storeId, cipher } = parts;
  const damaged = new Set<string>();
  for (const entry of new LogReader({ storage, storeId, cipher, afterLsn }).entries())
    if (entry.type === "damage") damaged.add(entry.segment);
  if (damaged.size === 0) return;
  const numbers = listSegments(storage).map(({ number }) => number);
  const newest = numbers.at(-1) ?? 0;
  for (let number = newest; number >= Math.max(1, numbers[0] ?? 1); number--) {
    const path = segmentPath(number);
    const isMissing = !numbers.includes(number);
    if (!damaged.has(path) && !isMissing) continue;
    const bytes = await source.read(path);
    if (bytes !== null && mend(parts, number, bytes))
      plan.done(path, `copied from ${source.description}`);
  }
}

function mend(parts: StoreParts, number: number, theirs: Uint8Array): boolean {
  const { storage, storeId, cipher } = parts;
  const path = segmentPath(number);
  const local = storage.existsSync(path) ? readFileSync(storage, path) : new Uint8Array(0);
  const header = headerOf(local, number, storeId) ?? headerOf(theirs, number, storeId);
  const theirHeader = headerOf(theirs, number, storeId);
  if (header === null || theirHeader === null) return false;
  if (Buffer.compare(header.salt, theirHeader.salt) !== 0) return false;
  const { scanner } = scanCopy(parts, `${path}.copy`, header, theirs);
  const recordEnd = scanner.offset + (scanner.end === "closed" ? END_RECORD_SIZE : 0);
  const candidate = new Uint8Array(header.fileSize);
  candidate.set(local.subarray(0, header.fileSize));
  candidate.set(encodeSegmentHeader(header));
  candidate.set(theirs.subarray(SEGMENT_HEADER_SIZE, recordEnd), SEGMENT_HEADER_SIZE);
  const next = headerAt(storage, number + 1, storeId);
  return replaceFile(storage, path, candidate, (file) => {
    const mended = new SegmentScanner({ file, header, cipher, next });
    while (mended.next() !== null);
    return true;
  });
}

/** Reads the records of a segment's bytes, filled up to the size that its header says. */
function scanCopy(
  { storage, cipher }: StoreParts,
  path: string,
  header: SegmentHeader,
  bytes: Uint8Array,
): { scanner: SegmentScanner; isDamaged: boolean } {
  const whole = new Uint8Array(header.fileSize);
  whole.set(bytes.subarray(0, header.fileSize));
  if (storage.existsSync(path)) storage.deleteSync(path);
  writeWhole(storage, path, whole);
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    const scanner = new SegmentScanner({ file, header, cipher, next: null });
    try {
      while (scanner.next() !== null);
      return { scanner, isDamaged: false };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return { scanner, isDamaged: true };
    }
  } finally {
    file.closeSync();
    storage.deleteSync(path);
  }
}

/** Null when it is not the header of this segment. */
function headerOf(bytes: Uint8Array, number: number, storeId: Uint8Array): SegmentHeader | null {
  const header = decodeSegmentHeader(bytes.subarray(0, SEGMENT_HEADER_SIZE));
  if ("problem" in header || header.number !== number) return null;
  return Buffer.compare(header.storeId, storeId) === 0 ? header : null;
}

function headerAt(storage: Storage, number: number, storeId: Uint8Array): SegmentHeader | null {
  const path = segmentPath(number);
  if (!storage.existsSync(path)) return null;
  try {
    return readSegmentHeader(storage, { number, path }, storeId);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return null;
  }
}

/** Where a log would be cut off. */
interface Cut {
  /** The segment with the first damage; 0 when there is none. */
  readonly number: number;
  readonly damage: StoreError;
  /** What can be kept of it; null when that is nothing. */
  readonly kept: { readonly header: SegmentHeader; readonly records: Uint8Array } | null;
  /** Only what follows it is damaged. */
  readonly isWhole: boolean;
  /** The last record before the cut. */
  readonly lastLsn: number;
  /** The last record that is known of after it; 0 when none is. */
  readonly knownLsn: number;
}

/** Null when the log is whole. */
function findCut(parts: StoreParts, afterLsn: number): Cut | null {
  const { storage, storeId, cipher } = parts;
  let damage: { error: StoreError; path: string } | null = null;
  let lastLsn = 0;
  let knownLsn = 0;
  for (const entry of new LogReader({ storage, storeId, cipher, afterLsn }).entries()) {
    if (entry.type === "damage") damage ??= { error: entry.error, path: entry.segment };
    else if (entry.type === "segment") knownLsn = Math.max(knownLsn, entry.firstLsn - 1);
    else if (entry.type === "record") {
      knownLsn = Math.max(knownLsn, entry.lsn);
      if (damage === null) lastLsn = entry.lsn;
    }
  }
  if (damage === null) return null;
  const { path, error } = damage;
  const number = listSegments(storage).find((name) => name.path === path)?.number ?? 0;
  const header = headerAt(storage, number, storeId);
  const none = { number, damage: error, kept: null, isWhole: false, lastLsn, knownLsn };
  if (header === null || header.firstLsn > Math.max(afterLsn, lastLsn) + 1) return none;
  const bytes = readFileSync(storage, path);
  const { scanner, isDamaged } = scanCopy(parts, `${path}.copy`, header, bytes);
  const kept = { header, records: Uint8Array.from(scanner.recordBytes()) };
  const isWhole = !isDamaged && bytes.length === header.fileSize;
  return { ...none, kept, isWhole, lastLsn: scanner.lastLsn };
}

/** T2. Newest first, so that after a crash on the way the log still ends in damage, or where it is to end. */
function truncate({ parts, plan, nowMs }: LogRepairParts, cut: Cut, afterLsn: number): void {
  const { storage, storeId, cipher } = parts;
  const names = listSegments(storage);
  const newest = names.at(-1)?.number ?? 0;
  const isBehind = cut.lastLsn < afterLsn;
  const isGiven = isBehind || cut.kept === null;
  for (const { number, path } of names.toReversed())
    if (number > cut.number || (number === cut.number && isGiven)) setAside(storage, path);
  if (isBehind) {
    const fileSize = fileSizeFor(FRESH_RECORD_BYTES);
    const header: SegmentHeader = {
      storeId,
      number: newest + 1,
      firstLsn: afterLsn + 1,
      fileSize,
      createdMs: nowMs,
      keyNumber: cipher?.activeKeyNumber ?? 0,
      salt: randomFillSync(new Uint8Array(SALT_SIZE)),
      previousChain: emptyChain(),
      previousClosed: false,
    };
    writeSegment(storage, header, new Uint8Array(0));
  } else if (cut.kept !== null && !cut.isWhole) {
    keepAside(storage, segmentPath(cut.number));
    writeSegment(storage, cut.kept.header, cut.kept.records);
  }
  const lastLsn = Math.max(cut.lastLsn, afterLsn);
  plan.done("the log", `cut off after LSN ${lastLsn}; the damaged files are kept beside it`);
}

function setAside(storage: Storage, path: string): void {
  storage.renameSync(path, asideName(storage, path));
  storage.syncDirectorySync(LOG_DIRECTORY);
}

function writeSegment(storage: Storage, header: SegmentHeader, records: Uint8Array): void {
  const bytes = new Uint8Array(header.fileSize);
  bytes.set(encodeSegmentHeader(header));
  bytes.set(records, SEGMENT_HEADER_SIZE);
  if (!storage.existsSync(LOG_DIRECTORY)) storage.makeDirectorySync(LOG_DIRECTORY);
  replaceFile(storage, segmentPath(header.number), bytes, () => true);
}

function refusal({ damage, lastLsn, knownLsn }: Cut): string {
  const known = knownLsn > lastLsn ? `, up to LSN ${knownLsn} at least` : "";
  return `Cannot repair the log: ${damage.message}; cutting it off there would give up every commit after LSN ${lastLsn}${known}; restore the segment from a copy, or use "--truncate-log" to give them up`;
}
