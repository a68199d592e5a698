/**
 * Every row of a catalog, one by one: for `check`, which goes on where the catalog itself stops at the first damage.
 *
 * S1. A damaged row is reported with its key, and passed over; the mark of the newest batch is checked and then not reported. Only a backend that cannot be read on ends the scan.
 */
import { StoreError } from "../errors.ts";
import {
  type CatalogState,
  type CheckpointedTimeline,
  type ChunkPlace,
  decodeChunkPlace,
  decodeRootRow,
  decodeTimeline,
  parseJson,
  type RootRow,
  Table,
} from "./catalog.ts";
import { compareKeys } from "./key-order.ts";
import type { KeyValueStore } from "./key-value.ts";
import { decodeOutcomeRun } from "./outcome-run.ts";
import { decodeMark, MARK_KEY } from "./recording-key-value.ts";
import { ByteReader, openValue } from "./record-codec.ts";
import type { BranchRow, DatabaseRow, TagRow } from "./rows.ts";

export type ScannedRow =
  | { readonly kind: "state"; readonly state: CatalogState }
  | { readonly kind: "database"; readonly row: DatabaseRow }
  | { readonly kind: "branch"; readonly row: BranchRow }
  | { readonly kind: "timeline"; readonly timeline: CheckpointedTimeline }
  | { readonly kind: "tag"; readonly row: TagRow }
  | { readonly kind: "commit" }
  | { readonly kind: "outcome" }
  | { readonly kind: "root"; readonly place: VersionPlace; readonly row: RootRow }
  /** Not verified: the id in the key is the hash of the bytes. */
  | { readonly kind: "node"; readonly id: Uint8Array; readonly bytes: Uint8Array }
  | { readonly kind: "chunk"; readonly id: Uint8Array; readonly place: ChunkPlace }
  | { readonly kind: "page"; readonly hash: Uint8Array; readonly place: PageRow }
  | {
      readonly kind: "history";
      readonly segment: number;
      readonly databaseId: number;
      readonly size: number;
    }
  | { readonly kind: "damaged"; readonly key: RowKey; readonly error: StoreError };

export interface VersionPlace {
  readonly databaseId: number;
  readonly timeline: number;
}

export interface PageRow {
  readonly chunkId: Uint8Array;
  readonly slot: number;
}

/** What the key of a damaged row says; null where it has no such part. */
export interface RowKey {
  readonly bytes: Uint8Array;
  readonly what: string;
  readonly databaseId: number | null;
  /** Of a branch row. */
  readonly branchId: number | null;
  readonly timeline: number | null;
  readonly version: number | null;
}

/** The bytes of nodes and ids are valid until the next row is asked for. */
export function* scanCatalog(store: KeyValueStore): Generator<ScannedRow, void, undefined> {
  const end = Uint8Array.of(0xff);
  for (const { key, value } of store.range({ start: MARK_KEY, end })) {
    try {
      if (compareKeys(key, MARK_KEY) === 0) decodeMark(key, value);
      else yield decodeRow(key, value);
    } catch (error) {
      if (error instanceof StoreError) yield { kind: "damaged", key: rowKey(key), error };
      else if (error instanceof SyntaxError || error instanceof RangeError)
        yield { kind: "damaged", key: rowKey(key), error: malformed(key, error) };
      else throw error;
    }
  }
}

function decodeRow(key: Uint8Array, sealed: Uint8Array): ScannedRow {
  const table = key[0] ?? 0;
  if (table === Table.node) return { kind: "node", id: key.subarray(1), bytes: sealed };
  const value = openValue(key, sealed, rowKey(key).what);
  switch (table) {
    case Table.state:
      return { kind: "state", state: parseJson<CatalogState>(value) };
    case Table.database:
      return { kind: "database", row: parseJson<DatabaseRow>(value) };
    case Table.branch:
      return { kind: "branch", row: parseJson<BranchRow>(value) };
    case Table.timeline:
      return { kind: "timeline", timeline: decodeTimeline(value) };
    case Table.tag:
      return { kind: "tag", row: parseJson<TagRow>(value) };
    case Table.commit:
      return { kind: "commit" };
    case Table.root:
      return { kind: "root", place: versionPlace(key), row: decodeRootRow(key, value) };
    case Table.chunk:
      return { kind: "chunk", id: key.subarray(1), place: decodeChunkPlace(value) };
    case Table.pageHash: {
      const reader = new ByteReader(value);
      const place = { chunkId: reader.raw(16), slot: reader.u8() };
      return { kind: "page", hash: key.subarray(1), place };
    }
    case Table.history: {
      const reader = new ByteReader(value);
      const segment = new ByteReader(key.subarray(1)).u32();
      return { kind: "history", segment, databaseId: reader.u32(), size: reader.u64() };
    }
    case Table.outcome:
      decodeOutcomeRun(new ByteReader(key.subarray(1)).u64(), value);
      return { kind: "outcome" };
    default:
      throw new StoreError(
        "STORE_FORMAT",
        `Cannot read the catalog: table ${table} is of a newer bough`,
      );
  }
}

const NAMES: ReadonlyMap<number, string> = new Map([
  [0, "the mark of the newest batch"],
  [Table.state, "the store state"],
  [Table.database, "a database"],
  [Table.branch, "a branch"],
  [Table.timeline, "a timeline"],
  [Table.tag, "a tag"],
  [Table.commit, "a commit"],
  [Table.root, "a checkpoint"],
  [Table.node, "a page map node"],
  [Table.chunk, "a chunk"],
  [Table.pageHash, "a page hash"],
  [Table.history, "a history segment"],
  [Table.outcome, "outcomes of transactions"],
]);

function rowKey(key: Uint8Array): RowKey {
  const table = key[0] ?? 0;
  const what = NAMES.get(table) ?? `table ${table}`;
  const isOfDatabase = table >= Table.database && table <= Table.root && key.length >= 5;
  const reader = new ByteReader(key.subarray(1));
  const databaseId = isOfDatabase ? reader.u32() : null;
  const hasSecond = isOfDatabase && table !== Table.tag && key.length >= 9;
  const second = hasSecond ? reader.u32() : null;
  const isBranch = table === Table.branch;
  const version = key.length === 17 && table >= Table.commit && isOfDatabase ? reader.u64() : null;
  return {
    bytes: Uint8Array.from(key),
    what,
    databaseId,
    branchId: isBranch ? second : null,
    timeline: isBranch ? null : second,
    version,
  };
}

function versionPlace(key: Uint8Array): VersionPlace {
  const reader = new ByteReader(key.subarray(1));
  return { databaseId: reader.u32(), timeline: reader.u32() };
}

function malformed(key: Uint8Array, cause: unknown): StoreError {
  return new StoreError(
    "CORRUPT_CATALOG",
    `Cannot read the catalog: the record of ${rowKey(key).what} does not parse`,
    { cause, details: { key: Buffer.from(key).toString("hex") } },
  );
}
