/** A log that goes on after an LSN without having any record: for a store that is put together from its checkpoint alone. */
import { randomBytes } from "node:crypto";
import type { Storage } from "../storage/storage.ts";
import { emptyChain } from "./log-recovery.ts";
import { LOG_DIRECTORY, segmentPath } from "./segment-files.ts";
import { encodeSegmentHeader, SALT_SIZE, SEGMENT_HEADER_SIZE } from "./segment-format.ts";

const FILE_SIZE = 2 * SEGMENT_HEADER_SIZE;

/** Makes segment 1, whose first record would be the one after `lsn`. Durable when it returns. */
export function writeEmptySegment(
  storage: Storage,
  { storeId, lsn, now }: { storeId: Uint8Array; lsn: number; now: number },
): void {
  storage.makeDirectorySync(LOG_DIRECTORY);
  const file = storage.openFileSync(segmentPath(1), { mode: "create" });
  try {
    file.truncateSync(FILE_SIZE);
    const header = encodeSegmentHeader({
      storeId,
      number: 1,
      firstLsn: lsn + 1,
      fileSize: FILE_SIZE,
      createdMs: now,
      keyNumber: 0,
      salt: new Uint8Array(randomBytes(SALT_SIZE)),
      previousChain: emptyChain(),
      previousClosed: false,
    });
    file.writeSync(0, header);
    file.syncSync();
  } finally {
    file.closeSync();
  }
  storage.syncDirectorySync(LOG_DIRECTORY);
}
