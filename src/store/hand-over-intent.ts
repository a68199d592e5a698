/**
 * The file `hand-over.json` in a store with partitions: a database that is on its way from one partition to another.
 *
 *   line 1   JSON: { "bough": "hand-over", "formatVersion": 1, "database": its name, "from", "to": partitions,
 *            "sourceId", "targetId": the database's number in each }
 *   line 2   its checksum: checked-line.ts
 *
 * I1. It is durable before anything is written in the target, and goes when the source has forgotten the database, or the target
 *     what it had of it.
 * I2. Where the database is, the target's catalog says: it has it once it has a database with that number. Such a number is given
 *     out once.
 * I3. One at a time. One that a failure left is settled when the store is opened; till then no other is begun.
 */
import { StoreError } from "../errors.ts";
import { checkedLine, openCheckedLine } from "../storage/checked-line.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";

const INTENT_FILE = "hand-over.json";
const FORMAT_VERSION = 1;

export interface HandOverIntent {
  readonly database: string;
  readonly from: number;
  readonly to: number;
  readonly sourceId: number;
  readonly targetId: number;
}

/** I3. Throws STORE_FAILED. */
export function refuseUnsettled(root: Storage): void {
  if (!root.existsSync(INTENT_FILE)) return;
  throw new StoreError(
    "STORE_FAILED",
    `Cannot hand over a database: an earlier hand-over failed on its way; open the store again`,
  );
}

export function writeIntent(root: Storage, intent: HandOverIntent): void {
  const { database, from, to, sourceId, targetId } = intent;
  const line = JSON.stringify({
    bough: "hand-over",
    formatVersion: FORMAT_VERSION,
    database,
    from,
    to,
    sourceId,
    targetId,
  });
  writeFileAtomicSync(root, INTENT_FILE, new TextEncoder().encode(checkedLine(line)));
}

/** Null: there is none. Throws CORRUPT_HEADER, STORE_FORMAT. */
export function readIntent(root: Storage): HandOverIntent | null {
  if (!root.existsSync(INTENT_FILE)) return null;
  const line = openCheckedLine(Buffer.from(readFileSync(root, INTENT_FILE)).toString());
  if (line === null)
    throw new StoreError(
      "CORRUPT_HEADER",
      `Cannot open the store: the checksum of "${INTENT_FILE}" does not fit; a database was on its way to another partition, put the file back from a copy`,
    );
  const intent = JSON.parse(line) as HandOverIntent & { readonly formatVersion: number };
  if (intent.formatVersion <= FORMAT_VERSION) return intent;
  throw new StoreError(
    "STORE_FORMAT",
    `Cannot open the store: the format version of "${INTENT_FILE}" is ${intent.formatVersion}; use a newer bough`,
  );
}

/** Durable when it returns. */
export function removeIntent(root: Storage): void {
  root.deleteSync(INTENT_FILE);
  root.syncDirectorySync("");
}
