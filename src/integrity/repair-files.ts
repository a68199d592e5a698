/**
 * Brings back whole files that say by themselves what they are: pack headers, history segments, the store's header.
 *
 * F1. A file from the source is written under a name that nobody reads, synced, verified from the disk, and only then renamed
 *     over the damaged one, which so is there until its content has been replaced.
 * F2. A pack's header holds nothing that the store does not know: it is written again in place, 40 bytes of one sector. The chunks
 *     behind it prove themselves.
 */
import { HISTORY_DIRECTORY, historyPath } from "../checkpoint/history-files.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { encodePackHeader, PACK_HEADER_SIZE, packPath } from "../page/pack-format.ts";
import { crc64Matches } from "../storage/crc64.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { directoryOf } from "../storage/whole-file.ts";
import type { RepairPlan } from "./repair-plan.ts";
import type { RepairSource } from "./repair-source.ts";

const PACK_CRC_OFFSET = 32;
const TEMPORARY_SUFFIX = ".repair";

/** Only damaged headers: whole ones, of other stores or numbers, mean that the file is another one. */
export function repairPackHeader(
  { storage, storeId }: StoreParts,
  plan: RepairPlan,
  number: number,
): void {
  const path = packPath(number);
  const file = storage.openFileSync(path, { mode: "write" });
  try {
    const header = new Uint8Array(PACK_HEADER_SIZE);
    const count = file.readSync(0, header);
    const isChecked =
      count === PACK_HEADER_SIZE &&
      crc64Matches(header, 0, PACK_CRC_OFFSET, header, PACK_CRC_OFFSET);
    if (isChecked) return;
    file.writeSync(0, encodePackHeader({ storeId, number }));
    file.syncSync();
  } finally {
    file.closeSync();
  }
  plan.done(path, "its header was written again");
}

export async function repairHistory(
  { storage, storeId, cipher }: StoreParts,
  { plan, source, segment }: { plan: RepairPlan; source: RepairSource; segment: number },
): Promise<void> {
  const path = historyPath(segment);
  const bytes = await source.read(path);
  if (bytes === null) return;
  storage.makeDirectorySync(HISTORY_DIRECTORY);
  const isReplaced = replaceFile(storage, path, bytes, (file) => {
    const reader = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
    for (const _ of reader.entries());
    return reader.header.segmentNumber === segment;
  });
  if (isReplaced) plan.done(path, `copied from ${source.description}`);
}

/** F1. False when the new content does not verify: nothing has changed then. */
export function replaceFile(
  storage: Storage,
  path: string,
  bytes: Uint8Array,
  verify: (file: StorageFile) => boolean,
): boolean {
  const temporary = path + TEMPORARY_SUFFIX;
  if (storage.existsSync(temporary)) storage.deleteSync(temporary);
  writeWhole(storage, temporary, bytes);
  const file = storage.openFileSync(temporary, { mode: "read" });
  let isRight = false;
  try {
    isRight = verify(file);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  } finally {
    file.closeSync();
  }
  if (isRight) storage.renameSync(temporary, path);
  else storage.deleteSync(temporary);
  storage.syncDirectorySync(directoryOf(path));
  return isRight;
}

/** The first name that is free: `<path>.damaged`, `<path>.damaged-2` ... */
export function asideName(storage: Storage, path: string): string {
  for (let count = 1; ; count++) {
    const name = count === 1 ? `${path}.damaged` : `${path}.damaged-${count}`;
    if (!storage.existsSync(name)) return name;
  }
}

/** Makes a copy of a damaged file beside it. Durable when it returns. */
export function keepAside(storage: Storage, path: string): void {
  if (storage.existsSync(path)) copyFile(storage, path, asideName(storage, path));
}

/** Durable when it returns; `to` is not there before it is complete. Replaces what has the name. */
export function copyFile(storage: Storage, path: string, to: string): void {
  const temporary = `${to}.copy`;
  if (storage.existsSync(temporary)) storage.deleteSync(temporary);
  const file = storage.openFileSync(path, { mode: "read" });
  const copy = storage.openFileSync(temporary, { mode: "create" });
  try {
    const part = new Uint8Array(1 << 20);
    for (let offset = 0; ; offset += part.length) {
      const count = file.readSync(offset, part);
      if (count > 0) copy.writeSync(offset, part.subarray(0, count));
      if (count < part.length) break;
    }
    copy.syncSync();
  } finally {
    copy.closeSync();
    file.closeSync();
  }
  storage.renameSync(temporary, to);
  storage.syncDirectorySync(directoryOf(to));
}

export function writeWhole(storage: Storage, path: string, bytes: Uint8Array): void {
  const file = storage.openFileSync(path, { mode: "create" });
  try {
    file.writeSync(0, bytes);
    file.syncSync();
  } finally {
    file.closeSync();
  }
}
