/**
 * Where the partitions of a store are. Each is a complete engine with files of its own: log, catalog, chunks, history.
 *
 *   path in the store            holds
 *   -                            store.json and the lock, of all partitions; the files of partition 0
 *   partitions/0001 to /0255     the files of partition 1 and so on, and partition.json
 *
 * partition.json
 *   line 1   JSON: { "bough": "partition", "formatVersion": 1, "storeId": 32 hex characters, "index": 1 to 255 }
 *   line 2   its checksum: checked-line.ts
 *
 * F1. A partition's directory and its partition.json are durable before store.json counts it. So a counted one that has none is
 *     lost, and is never replaced by an empty one.
 * F2. A directory with a partition.json is no store, and never opened as one: it has no keys, and nobody else would be kept from it.
 * F3. A partition that store.json does not count holds nothing else, as a crash leaves it. One that holds more has databases that
 *     nobody would see: store.json is older than it, and the store is not opened.
 */
import { StoreError } from "../errors.ts";
import { checkedLine, openCheckedLine } from "../storage/checked-line.ts";
import type { Storage } from "../storage/storage.ts";
import { SubdirectoryStorage } from "../storage/subdirectory-storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { HEADER_FILE, partitionCount, type StoreHeader } from "./store-header.ts";

export const PARTITIONS_DIRECTORY = "partitions";
export const PARTITION_FILE = "partition.json";
const PARTITION_FORMAT_VERSION = 1;

/** The storage of one partition. */
export function partitionStorage(root: Storage, index: number): Storage {
  return index === 0 ? root : new SubdirectoryStorage(root, partitionPath(index));
}

/** From 1. */
export function partitionPath(index: number): string {
  return `${PARTITIONS_DIRECTORY}/${String(index).padStart(4, "0")}`;
}

/** F1. Makes the directory of a partition that is not counted yet; again without effect. */
export function makePartition(root: Storage, { storeId }: StoreHeader, index: number): void {
  const storage = partitionStorage(root, index);
  storage.makeDirectorySync("");
  const line = JSON.stringify({
    bough: "partition",
    formatVersion: PARTITION_FORMAT_VERSION,
    storeId: Buffer.from(storeId).toString("hex"),
    index,
  });
  writeFileAtomicSync(storage, PARTITION_FILE, new TextEncoder().encode(checkedLine(line)));
}

/** F1, F3. Throws CORRUPT_HEADER, STORE_FORMAT. */
export function checkPartitions(root: Storage, header: StoreHeader): void {
  for (let index = 1; index < partitionCount(header); index++) checkPartition(root, header, index);
  refuseUncounted(root, header);
}

/** F3. Throws CORRUPT_HEADER. */
export function refuseUncounted(root: Storage, header: StoreHeader): void {
  const count = partitionCount(header);
  for (const name of root.listSync(PARTITIONS_DIRECTORY)) {
    const index = /^\d{4}$/.test(name) ? Number(name) : 0;
    if (index < count) continue;
    const foreign = partitionStorage(root, index)
      .listSync("")
      .find((file) => !file.startsWith(PARTITION_FILE));
    if (foreign === undefined) continue;
    throw new StoreError(
      "CORRUPT_HEADER",
      `Cannot open the store: "${HEADER_FILE}" says ${count === 1 ? "that it has one partition" : `${count} partitions`}, and "${partitionPath(index)}" holds "${foreign}"; "${HEADER_FILE}" is older than the rest, put the newer one back`,
    );
  }
}

/** F1. */
export function checkPartition(root: Storage, { storeId }: StoreHeader, index: number): void {
  const path = `${partitionPath(index)}/${PARTITION_FILE}`;
  if (!root.existsSync(path))
    throw new StoreError(
      "CORRUPT_HEADER",
      `Cannot open partition ${index}: "${path}" is missing; put the directory back, from a copy of the store if need be`,
      { details: { partition: index } },
    );
  const line = openCheckedLine(Buffer.from(readFileSync(root, path)).toString());
  if (line === null)
    throw new StoreError("CORRUPT_HEADER", `Cannot read "${path}": its checksum does not fit`, {
      details: { partition: index },
    });
  const json = JSON.parse(line) as Partial<Record<string, unknown>>;
  if (Number(json["formatVersion"]) > PARTITION_FORMAT_VERSION)
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot open partition ${index}: its format version is ${String(json["formatVersion"])}; use a newer bough`,
    );
  const expected = Buffer.from(storeId).toString("hex");
  if (json["storeId"] === expected && json["index"] === index) return;
  throw new StoreError(
    "CORRUPT_HEADER",
    `Cannot open partition ${index}: "${path}" is of partition ${String(json["index"])} of store ${String(json["storeId"])}, the store is ${expected}`,
    { details: { partition: index } },
  );
}

/** F2. */
export function refusePartitionDirectory(storage: Storage, names: readonly string[]): void {
  if (!names.includes(PARTITION_FILE)) return;
  throw new StoreError(
    "STORE_IS_PARTITION",
    `Cannot open store "${storage.description}": the directory is one partition of a store; open the store, two directories above`,
  );
}
