/**
 * Brings rows of the catalog and page-map nodes back.
 *
 *   one flipped bit: found by trying each, the check or the id decides -> the history file's own header, for its row -> the source
 *
 * N1. A row of the page index is only dropped: it spares space, nothing reads through it.
 * N2. A node is proved by its id. Rows that have no id come from a source only under E2.
 */
import { Table } from "../catalog/catalog.ts";
import { ByteWriter, openValue, sealValue } from "../catalog/record-codec.ts";
import { historyPath, openHistoryFile } from "../checkpoint/history-files.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { idKey } from "../page/chunk-handle.ts";
import { nodeId } from "../page/page-map-node.ts";
import { hexOf, type RepairPlan, rowKey } from "./repair-plan.ts";
import type { RepairSource } from "./repair-source.ts";

export interface RowRepairParts {
  readonly parts: StoreParts;
  readonly source: RepairSource | null;
  readonly plan: RepairPlan;
}

const ID_ROW_SIZE = 17;
const HISTORY_ROW_SIZE = 5;
/** Larger values than any row or node has. */
const CORRECTED_SIZE_MAX = 16 * 1024;

/** Rows that fail their check, or say what is not so. Returns the ids of chunks whose rows are damaged. */
export async function repairRows(
  repair: RowRepairParts,
  keys: readonly Uint8Array[],
): Promise<Uint8Array[]> {
  const { parts, plan } = repair;
  const chunks: Uint8Array[] = [];
  let isSame: boolean | null = null;
  for (const key of keys) {
    const sealed = parts.catalog.store.get(key);
    if (sealed === undefined) continue;
    const what = `catalog row ${hexOf(key)}`;
    const corrected = isWhole(key, sealed) ? null : correctRow(key, sealed);
    if (corrected !== null) {
      plan.batch.deleteStored(key);
      plan.batch.putStored(corrected.key, corrected.value);
      plan.done(what, "one flipped bit was put right");
    } else if (key[0] === Table.pageHash && key.length === ID_ROW_SIZE) {
      plan.batch.deleteStored(key); // N1
      plan.done(what, "dropped: the page index does without it");
    } else if (key[0] === Table.chunk && key.length === ID_ROW_SIZE) {
      chunks.push(Uint8Array.from(key.subarray(1)));
    } else if (!repairHistoryRow(repair, key) && repair.source !== null) {
      isSame ??= await hasSameCheckpoint(parts, repair.source);
      if (isSame) await takeFromSource(repair, repair.source, key);
    }
  }
  return chunks;
}

/** Nodes that are missing, or whose bytes have another id. `isUsed`: a root leads to it. */
export async function repairNodes(
  { parts, source, plan }: RowRepairParts,
  nodes: readonly { readonly id: Uint8Array; readonly isUsed: boolean }[],
): Promise<void> {
  const { catalog, cipher } = parts;
  const wanted = new Set(nodes.map(({ id }) => idKey(id)));
  for (const { id, isUsed } of nodes) {
    const key = rowKey(Table.node, id);
    const what = `page map node ${hexOf(id)}`;
    const stored = catalog.store.get(key);
    const isRight = (bytes: Uint8Array): boolean => Buffer.compare(nodeId(bytes, cipher), id) === 0;
    if (stored !== undefined && isRight(stored)) continue; // Its encoding is refused: that was written so.
    const bytes = stored === undefined ? null : Uint8Array.from(stored);
    if (bytes !== null) {
      const trueId = nodeId(bytes, cipher);
      if (wanted.has(idKey(trueId))) {
        plan.batch.putStored(rowKey(Table.node, trueId), bytes);
        plan.done(`page map node ${hexOf(trueId)}`, "it was under another key");
      }
    }
    const whole =
      (bytes === null ? null : correctBit(bytes, isRight)) ??
      (await nodeFromSource(source, key, isRight));
    if (whole !== null) {
      plan.batch.putStored(key, whole);
      plan.done(what, "one flipped bit was put right, or the source has it");
    } else if (bytes !== null && !isUsed) {
      plan.batch.deleteStored(key);
      plan.done(what, "dropped: nothing refers to it");
    }
  }
}

async function nodeFromSource(
  source: RepairSource | null,
  key: Uint8Array,
  isRight: (bytes: Uint8Array) => boolean,
): Promise<Uint8Array | null> {
  const bytes = (await source?.catalogEntry(key)) ?? null;
  return bytes !== null && isRight(bytes) ? bytes : null;
}

/** The file says whose it is. */
function repairHistoryRow({ parts, plan }: RowRepairParts, key: Uint8Array): boolean {
  if (key[0] !== Table.history || key.length !== HISTORY_ROW_SIZE) return false;
  const segment = Buffer.from(key).readUInt32BE(1);
  const { storage, storeId, cipher } = parts;
  try {
    const file = openHistoryFile(storage, segment);
    try {
      const { header } = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
      if (header.segmentNumber !== segment) return false;
      const value = new ByteWriter(12).u32(header.databaseId).u64(file.sizeSync()).bytes;
      plan.batch.putStored(key, sealValue(key, value));
      plan.done(`catalog row ${hexOf(key)}`, `made again from ${historyPath(segment)}`);
      return true;
    } finally {
      file.closeSync();
    }
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return false;
  }
}

async function takeFromSource(
  { plan }: RowRepairParts,
  source: RepairSource,
  key: Uint8Array,
): Promise<void> {
  const sealed = await source.catalogEntry(key);
  if (sealed !== null && !isWhole(key, sealed)) return;
  const what = `catalog row ${hexOf(key)}`;
  // A key that the same catalog does not have elsewhere is damage itself; the row it was is missing, and comes next.
  if (sealed === null) plan.batch.deleteStored(key);
  else plan.batch.putStored(key, sealed);
  plan.done(what, sealed === null ? "dropped: no such row" : `copied from ${source.description}`);
}

/** Tables whose rows change from one checkpoint to the next. */
const CHANGING = [Table.state, Table.database, Table.branch, Table.timeline, Table.tag];

/** E2. */
export async function hasSameCheckpoint(
  { catalog }: StoreParts,
  source: RepairSource,
): Promise<boolean> {
  let compared = 0;
  for (const table of CHANGING) {
    const range = { start: Uint8Array.of(table), end: Uint8Array.of(table + 1) };
    for (const { key, value } of catalog.store.range(range)) {
      if (!isWhole(key, value)) continue;
      const [ownKey, ownValue] = [Uint8Array.from(key), Uint8Array.from(value)];
      const other = await source.catalogEntry(ownKey);
      if (other === null || Buffer.compare(other, ownValue) !== 0) return false;
      compared++;
    }
  }
  return compared > 0;
}

function isWhole(key: Uint8Array, sealed: Uint8Array): boolean {
  try {
    openValue(key, sealed, "");
    return true;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return false;
  }
}

/** The row with one bit of its key or value the other way round, when it then passes its check. */
function correctRow(
  key: Uint8Array,
  sealed: Uint8Array,
): { key: Uint8Array; value: Uint8Array } | null {
  const [ownKey, value] = [Uint8Array.from(key), Uint8Array.from(sealed)];
  const right = correctBit(value, (bytes) => isWhole(ownKey, bytes));
  if (right !== null) return { key: ownKey, value: right };
  const rightKey = correctBit(ownKey, (bytes) => isWhole(bytes, value));
  return rightKey === null ? null : { key: rightKey, value };
}

/** The bytes with one bit changed so that they are right; null when no bit does it. */
function correctBit(bytes: Uint8Array, isRight: (bytes: Uint8Array) => boolean): Uint8Array | null {
  if (bytes.length > CORRECTED_SIZE_MAX) return null;
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const mask = 1 << (bit & 7);
    bytes[bit >> 3]! ^= mask;
    const isFound = isRight(bytes);
    const found = isFound ? Uint8Array.from(bytes) : null;
    bytes[bit >> 3]! ^= mask;
    if (found !== null) return found;
  }
  return null;
}
