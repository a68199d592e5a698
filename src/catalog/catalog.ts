/**
 * The records that the catalog keeps, over any key-value backend. The catalog is the state of a store as of its last
 * checkpoint; what happened since is in the log.
 *
 * Keys (big-endian; first byte = table):
 *
 * | table | key after the table byte             | value                                                        |
 * |-------|--------------------------------------|--------------------------------------------------------------|
 * | 0x00  | -                                    | mark of the newest batch: recording-key-value.ts              |
 * | 0x01  | -                                    | store state, JSON: format version, checkpoint LSN, counters   |
 * | 0x02  | database u32                         | database row, JSON                                            |
 * | 0x03  | database u32, branch u32             | branch row, JSON                                              |
 * | 0x04  | database u32, timeline u32           | timeline row and its checkpointed head, JSON; `row.everyCommitFrom` once versions have expired |
 * | 0x05  | database u32, tag name UTF-8         | tag row, JSON                                                 |
 * | 0x06  | database u32, timeline u32, version u64 | commits up to that version, at most 128: commit-run.ts      |
 * | 0x07  | database u32, timeline u32, version u64 | root: page count u32, levels u8, has node u8, node 16, history segment u32 (0 = none) |
 * | 0x08  | node id 16                           | page-map node, as page-map.ts encodes it; no checksum (C1)    |
 * | 0x09  | chunk id 16                          | pack u32, offset u64, length u32; then slot count u8, absent in rows of before; then, of a chunk with holes, present slots u64 |
 * | 0x0a  | page hash 16                         | chunk id 16, slot u8                                          |
 * | 0x0b  | history segment u32                  | database u32, size u64; then entries that refer to chunks u32, absent in rows of before |
 * | 0x0c  | LSN u64                              | transactions with an id that committed up to that record, at most 128: outcome-run.ts |
 *
 * All values but nodes are sealed (record-codec.ts). The format version in the state record covers the table above;
 * a reader refuses a greater one.
 */
import { StoreError } from "../errors.ts";
import { COMMIT_RUN_MAX, type CommitRow, decodeCommitRun, encodeCommitRun } from "./commit-run.ts";
import { type KeyValueEntry, type KeyValueStore, WriteBatch } from "./key-value.ts";
import { decodeOutcomeRun, encodeOutcomeRun, type OutcomeRow } from "./outcome-run.ts";
import type { BranchRow, DatabaseRow, TagRow, TimelineRow } from "./rows.ts";
import { ByteReader, ByteWriter, openValue, sealValue } from "./record-codec.ts";

export const CATALOG_FORMAT_VERSION = 1;

/** The first byte of a key. */
export const Table = {
  state: 1,
  database: 2,
  branch: 3,
  timeline: 4,
  tag: 5,
  commit: 6,
  root: 7,
  node: 8,
  chunk: 9,
  pageHash: 10,
  history: 11,
  outcome: 12,
} as const;

/** The tables whose keys begin with a database. */
export const TABLES_BY_DATABASE: readonly number[] = [
  Table.database,
  Table.branch,
  Table.timeline,
  Table.tag,
  Table.commit,
  Table.root,
];

export interface CatalogState {
  readonly formatVersion: number;
  /** Records up to this LSN are contained in the catalog. */
  readonly checkpointLsn: number;
  readonly nextDatabaseId: number;
  readonly nextHistorySegment: number;
  /** Outcomes of transactions that committed up to then may be gone, ms since 1970; absent: of none. */
  readonly outcomesSinceMs?: number;
}

/** A page map's entry point; see page-map.ts. */
export interface StoredRoot {
  readonly nodeId: Uint8Array | null;
  readonly levels: number;
  readonly pageCount: number;
}

export interface CheckpointedTimeline {
  readonly row: TimelineRow;
  /** The newest version that is in the catalog (the fork version, or 0, when the timeline has no commit of its own). */
  readonly headVersion: number;
  readonly headTimestampMs: number;
  /** The page map of `headVersion`; null until a checkpoint has made one. */
  readonly root: StoredRoot | null;
}

export interface RootRow {
  readonly version: number;
  readonly root: StoredRoot;
  /** The segment with the versions between the previous root of this timeline and this one; 0 when there are none. */
  readonly historySegment: number;
}

export interface ChunkPlace {
  readonly pack: number;
  readonly offset: number;
  readonly length: number;
  /** Pages that the chunk was made with; absent where the row does not say. */
  readonly slotCount?: number;
  /** Of a chunk with holes the slots that are none; absent for a whole one. */
  readonly present?: bigint;
}

export interface PagePlace {
  readonly chunkId: Uint8Array;
  readonly slot: number;
}

export interface HistoryRow {
  readonly segment: number;
  readonly databaseId: number;
  readonly size: number;
  /** Entries that refer to pages in chunks; absent where the row does not say. */
  readonly references?: number;
}

/** Reads of the catalog; every one throws StoreError CORRUPT_CATALOG when the record is damaged. */
export class Catalog {
  readonly store: KeyValueStore;

  constructor(store: KeyValueStore) {
    this.store = store;
  }

  state(): CatalogState | null {
    const key = stateKey();
    const sealed = this.store.get(key);
    if (sealed === undefined) return null;
    const state = parseJson<CatalogState>(openValue(key, sealed, "the store state"));
    if (state.formatVersion > CATALOG_FORMAT_VERSION)
      throw new StoreError(
        "STORE_FORMAT",
        `Cannot open the catalog: its format version is ${state.formatVersion}, this bough reads up to ${CATALOG_FORMAT_VERSION}; use a newer bough`,
      );
    return state;
  }

  databases(): DatabaseRow[] {
    return this.#jsonRows<DatabaseRow>(Table.database, "a database");
  }

  branches(): BranchRow[] {
    return this.#jsonRows<BranchRow>(Table.branch, "a branch");
  }

  timelines(): CheckpointedTimeline[] {
    return this.#jsonRows<StoredTimeline>(Table.timeline, "a timeline").map(fromStoredTimeline);
  }

  tags(): TagRow[] {
    return this.#jsonRows<TagRow>(Table.tag, "a tag");
  }

  /** Commits of one timeline with versions in [from, to], ascending, or descending when `reverse`. */
  *commits(
    databaseId: number,
    timeline: number,
    range: { from: number; to: number; reverse?: boolean; limit?: number },
  ): Generator<CommitRow> {
    const { from, to, reverse = false, limit = Infinity } = range;
    let count = 0;
    for (const run of this.#runs(databaseId, timeline, { from, to, reverse })) {
      for (const commit of reverse ? run : run.toReversed()) {
        if (commit.version < from || commit.version > to) continue;
        if (count++ >= limit) return;
        yield commit;
      }
      if (count >= limit || (!reverse && run[0]!.version >= to)) return;
    }
  }

  /** Stored runs of commits, oldest run first, that hold versions from `from` on; each newest commit first. */
  commitRuns(databaseId: number, timeline: number, from: number): Generator<CommitRow[]> {
    return this.#runs(databaseId, timeline, { from, to: Infinity, reverse: false });
  }

  /** The rows that may hold versions in [from, to]: those whose newest is there, and the first one after it. */
  *#runs(
    databaseId: number,
    timeline: number,
    { from, to, reverse }: { from: number; to: number; reverse: boolean },
  ): Generator<CommitRow[]> {
    if (to < from) return;
    const decode = ({ key, value }: KeyValueEntry): CommitRow[] =>
      decodeCommitRun(versionOf(key), openValue(key, value, "a run of commits"));
    const rows = (options: {
      from: number;
      to: number;
      reverse?: boolean;
      limit?: number;
    }): Iterable<KeyValueEntry> => this.#versions(Table.commit, databaseId, timeline, options);
    if (!reverse) {
      for (const entry of rows({ from, to: Infinity })) yield decode(entry);
      return;
    }
    if (to < Infinity)
      for (const entry of rows({ from: to + 1, to: Infinity, limit: 1 })) yield decode(entry);
    for (const entry of rows({ from, to, reverse: true })) yield decode(entry);
  }

  /** Roots of one timeline with versions in [from, to], ascending, or descending when `reverse`. */
  *roots(
    databaseId: number,
    timeline: number,
    range: { from: number; to: number; reverse?: boolean; limit?: number },
  ): Generator<RootRow> {
    for (const { key, value } of this.#versions(Table.root, databaseId, timeline, range)) {
      yield decodeRootRow(key, openValue(key, value, "a checkpoint"));
    }
  }

  /** The bytes of a page-map node; the caller verifies them against the id. */
  node(id: Uint8Array): Uint8Array | undefined {
    return this.store.get(idKey(Table.node, id));
  }

  chunk(id: Uint8Array): ChunkPlace | undefined {
    const key = idKey(Table.chunk, id);
    const sealed = this.store.get(key);
    if (sealed === undefined) return undefined;
    return decodeChunkPlace(openValue(key, sealed, "a chunk"));
  }

  *chunks(): Generator<{ id: Uint8Array; place: ChunkPlace }> {
    for (const { key, value } of this.#table(Table.chunk))
      yield {
        id: new Uint8Array(key.subarray(1)),
        place: decodeChunkPlace(openValue(key, value, "a chunk")),
      };
  }

  page(hash: Uint8Array): PagePlace | undefined {
    const key = idKey(Table.pageHash, hash);
    const sealed = this.store.get(key);
    if (sealed === undefined) return undefined;
    return decodePagePlace(openValue(key, sealed, "a page hash"));
  }

  *pages(): Generator<{ hash: Uint8Array; place: PagePlace }> {
    for (const { key, value } of this.#table(Table.pageHash)) {
      const place = decodePagePlace(openValue(key, value, "a page hash"));
      yield { hash: new Uint8Array(key.subarray(1)), place };
    }
  }

  *historySegments(): Generator<HistoryRow> {
    for (const { key, value } of this.#table(Table.history)) {
      yield decodeHistoryRow(key, openValue(key, value, "a history segment"));
    }
  }

  /** In the order of commits; null for a row that is damaged. */
  *outcomeRuns(): Generator<{ lsn: number; transactions: OutcomeRow[] | null }> {
    for (const { key, value } of this.#table(Table.outcome)) {
      const lsn = new ByteReader(key.subarray(1)).u64();
      try {
        const run = openValue(key, value, "outcomes of transactions");
        yield { lsn, transactions: decodeOutcomeRun(lsn, run) };
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        yield { lsn, transactions: null };
      }
    }
  }

  #jsonRows<T>(table: number, what: string): T[] {
    const rows: T[] = [];
    for (const { key, value } of this.#table(table))
      rows.push(parseJson<T>(openValue(key, value, what)));
    return rows;
  }

  #table(table: number): Iterable<{ key: Uint8Array; value: Uint8Array }> {
    return this.store.range({ start: Uint8Array.of(table), end: Uint8Array.of(table + 1) });
  }

  #versions(
    table: number,
    databaseId: number,
    timeline: number,
    range: { from: number; to: number; reverse?: boolean; limit?: number },
  ): Iterable<{ key: Uint8Array; value: Uint8Array }> {
    const to = Math.min(range.to, Number.MAX_SAFE_INTEGER - 1);
    if (to < range.from) return [];
    return this.store.range({
      start: versionKey(table, databaseId, timeline, range.from),
      end: versionKey(table, databaseId, timeline, to + 1),
      ...(range.reverse === undefined ? {} : { reverse: range.reverse }),
      ...(range.limit === undefined ? {} : { limit: range.limit }),
    });
  }
}

/** Collects the writes of one checkpoint; nothing is visible until `commit`. */
export class CatalogBatch {
  readonly #batch: WriteBatch = new WriteBatch();

  setState(state: CatalogState): void {
    this.#putJson(stateKey(), state);
  }

  putDatabase(row: DatabaseRow): void {
    this.#putJson(new ByteWriter(5).u8(Table.database).u32(row.id).bytes, row);
  }

  putBranch(row: BranchRow): void {
    this.#putJson(pairKey(Table.branch, row.databaseId, row.id), row);
  }

  putTimeline(timeline: CheckpointedTimeline): void {
    const { row } = timeline;
    this.#putJson(pairKey(Table.timeline, row.databaseId, row.id), toStoredTimeline(timeline));
  }

  deleteBranch(databaseId: number, branchId: number): void {
    this.#batch.delete(pairKey(Table.branch, databaseId, branchId));
  }

  /** The timeline with its commits and roots, as far as `store` has them now. */
  deleteTimeline(store: KeyValueStore, databaseId: number, timeline: number): void {
    this.#batch.delete(pairKey(Table.timeline, databaseId, timeline));
    for (const table of [Table.commit, Table.root])
      this.#deleteRange(store, pairKey(table, databaseId, timeline));
  }

  /** The database with all that is its own, as far as `store` has it now. */
  deleteDatabase(store: KeyValueStore, databaseId: number): void {
    for (const table of TABLES_BY_DATABASE)
      this.#deleteRange(store, new ByteWriter(5).u8(table).u32(databaseId).bytes);
    for (const row of new Catalog(store).historySegments())
      if (row.databaseId === databaseId) this.deleteHistory(row.segment);
  }

  putTag(row: TagRow): void {
    this.#putJson(tagKey(row.databaseId, row.name), row);
  }

  deleteTag(databaseId: number, name: string): void {
    this.#batch.delete(tagKey(databaseId, name));
  }

  putCommit(databaseId: number, timeline: number, commit: CommitRow): void {
    this.putCommits(databaseId, timeline, [commit]);
  }

  /** Commits that ascend by version. */
  putCommits(databaseId: number, timeline: number, commits: readonly CommitRow[]): void {
    for (let start = 0; start < commits.length; start += COMMIT_RUN_MAX) {
      const end = Math.min(start + COMMIT_RUN_MAX, commits.length);
      const key = versionKey(Table.commit, databaseId, timeline, commits[end - 1]!.version);
      this.#put(key, encodeCommitRun(commits, start, end));
    }
  }

  /** The run whose newest commit has that version. */
  deleteCommitRun(databaseId: number, timeline: number, newestVersion: number): void {
    this.#batch.delete(versionKey(Table.commit, databaseId, timeline, newestVersion));
  }

  putRoot(databaseId: number, timeline: number, row: RootRow): void {
    const { root } = row;
    this.#put(
      versionKey(Table.root, databaseId, timeline, row.version),
      new ByteWriter(26)
        .u32(root.pageCount)
        .u8(root.levels)
        .u8(root.nodeId === null ? 0 : 1)
        .raw(root.nodeId ?? new Uint8Array(16))
        .u32(row.historySegment).bytes,
    );
  }

  deleteRoot(databaseId: number, timeline: number, version: number): void {
    this.#batch.delete(versionKey(Table.root, databaseId, timeline, version));
  }

  putNode(id: Uint8Array, bytes: Uint8Array): void {
    this.#batch.put(idKey(Table.node, id), bytes);
  }

  putChunk(id: Uint8Array, place: ChunkPlace): void {
    const { slotCount, present } = place;
    const hasHoles = slotCount !== undefined && present !== undefined;
    const writer = new ByteWriter(16 + (slotCount === undefined ? 0 : 1) + (hasHoles ? 8 : 0));
    writer.u32(place.pack).u64(place.offset).u32(place.length);
    if (slotCount !== undefined) writer.u8(slotCount);
    if (hasHoles) writer.u32(Number(present >> 32n)).u32(Number(present & 0xffff_ffffn));
    this.#put(idKey(Table.chunk, id), writer.bytes);
  }

  /** A row as it is stored, with its check: for repairs. */
  putStored(key: Uint8Array, sealed: Uint8Array): void {
    this.#batch.put(Uint8Array.from(key), Uint8Array.from(sealed));
  }

  deleteStored(key: Uint8Array): void {
    this.#batch.delete(Uint8Array.from(key));
  }

  deleteNode(id: Uint8Array): void {
    this.#batch.delete(idKey(Table.node, id));
  }

  deleteChunk(id: Uint8Array): void {
    this.#batch.delete(idKey(Table.chunk, id));
  }

  deletePage(hash: Uint8Array): void {
    this.#batch.delete(idKey(Table.pageHash, hash));
  }

  putPage(hash: Uint8Array, place: PagePlace): void {
    this.#put(
      idKey(Table.pageHash, hash),
      new ByteWriter(17).raw(place.chunkId).u8(place.slot).bytes,
    );
  }

  putHistory(row: HistoryRow): void {
    this.#put(
      new ByteWriter(5).u8(Table.history).u32(row.segment).bytes,
      row.references === undefined
        ? new ByteWriter(12).u32(row.databaseId).u64(row.size).bytes
        : new ByteWriter(16).u32(row.databaseId).u64(row.size).u32(row.references).bytes,
    );
  }

  deleteHistory(segment: number): void {
    this.#batch.delete(new ByteWriter(5).u8(Table.history).u32(segment).bytes);
  }

  putOutcomeRun(lsn: number, transactions: readonly OutcomeRow[]): void {
    this.#put(outcomeKey(lsn), encodeOutcomeRun(transactions));
  }

  deleteOutcomeRun(lsn: number): void {
    this.#batch.delete(outcomeKey(lsn));
  }

  /** Atomic and durable. */
  commit(store: KeyValueStore): void {
    store.commit(this.#batch);
  }

  /** Every key that begins with `prefix`. */
  #deleteRange(store: KeyValueStore, prefix: Uint8Array): void {
    const end = Uint8Array.from(prefix);
    let last = end.length - 1;
    while (last > 0 && end[last] === 0xff) end[last--] = 0;
    end[last]!++;
    for (const { key } of store.range({ start: prefix, end }))
      this.#batch.delete(Uint8Array.from(key));
  }

  #putJson(key: Uint8Array, value: object): void {
    this.#put(key, new TextEncoder().encode(JSON.stringify(value)));
  }

  #put(key: Uint8Array, value: Uint8Array): void {
    this.#batch.put(key, sealValue(key, value));
  }
}

function outcomeKey(lsn: number): Uint8Array {
  return new ByteWriter(9).u8(Table.outcome).u64(lsn).bytes;
}

interface StoredTimeline {
  readonly row: TimelineRow;
  readonly headVersion: number;
  readonly headTimestampMs: number;
  readonly root: {
    readonly nodeId: string | null;
    readonly levels: number;
    readonly pageCount: number;
  } | null;
}

function toStoredTimeline(timeline: CheckpointedTimeline): StoredTimeline {
  const { root } = timeline;
  if (root === null) return { ...timeline, root: null };
  const nodeId = root.nodeId === null ? null : Buffer.from(root.nodeId).toString("hex");
  return { ...timeline, root: { nodeId, levels: root.levels, pageCount: root.pageCount } };
}

function fromStoredTimeline(stored: StoredTimeline): CheckpointedTimeline {
  const { root } = stored;
  if (root === null) return { ...stored, root: null };
  const nodeId = root.nodeId === null ? null : Uint8Array.from(Buffer.from(root.nodeId, "hex"));
  return { ...stored, root: { nodeId, levels: root.levels, pageCount: root.pageCount } };
}

function stateKey(): Uint8Array {
  return Uint8Array.of(Table.state);
}

function idKey(table: number, id: Uint8Array): Uint8Array {
  const key = new Uint8Array(1 + id.length);
  key[0] = table;
  key.set(id, 1);
  return key;
}

function pairKey(table: number, first: number, second: number): Uint8Array {
  return new ByteWriter(9).u8(table).u32(first).u32(second).bytes;
}

function tagKey(databaseId: number, name: string): Uint8Array {
  const text = new TextEncoder().encode(name);
  return new ByteWriter(5 + text.length).u8(Table.tag).u32(databaseId).raw(text).bytes;
}

function versionKey(
  table: number,
  databaseId: number,
  timeline: number,
  version: number,
): Uint8Array {
  return new ByteWriter(17).u8(table).u32(databaseId).u32(timeline).u64(version).bytes;
}

function versionOf(key: Uint8Array): number {
  return new ByteReader(key.subarray(9)).u64();
}

/** The value of a row of the table `root`, opened. */
export function decodeRootRow(key: Uint8Array, value: Uint8Array): RootRow {
  const reader = new ByteReader(value);
  const pageCount = reader.u32();
  const levels = reader.u8();
  const hasNode = reader.u8() === 1;
  const nodeId = reader.raw(16);
  return {
    version: versionOf(key),
    root: { pageCount, levels, nodeId: hasNode ? nodeId : null },
    historySegment: reader.u32(),
  };
}

/** The value of a row of the table `timeline`, opened. */
export function decodeTimeline(value: Uint8Array): CheckpointedTimeline {
  return fromStoredTimeline(parseJson<StoredTimeline>(value));
}

export function decodeChunkPlace(value: Uint8Array): ChunkPlace {
  const reader = new ByteReader(value);
  const place = { pack: reader.u32(), offset: reader.u64(), length: reader.u32() };
  if (value.length < 17) return place;
  const slotCount = reader.u8();
  if (value.length < 25) return { ...place, slotCount };
  const present = (BigInt(reader.u32()) << 32n) | BigInt(reader.u32());
  return { ...place, slotCount, present };
}

/** False when garbage collection has dropped the page of the slot. */
export function hasSlot({ present }: ChunkPlace, slot: number): boolean {
  return present === undefined || ((present >> BigInt(slot)) & 1n) === 1n;
}

/** The value of a row of the table `pageHash`, opened. */
export function decodePagePlace(value: Uint8Array): PagePlace {
  const reader = new ByteReader(value);
  return { chunkId: reader.raw(16), slot: reader.u8() };
}

/** The value of a row of the table `history`, opened. */
export function decodeHistoryRow(key: Uint8Array, value: Uint8Array): HistoryRow {
  const reader = new ByteReader(value);
  const segment = new ByteReader(key.subarray(1)).u32();
  const row = { segment, databaseId: reader.u32(), size: reader.u64() };
  return value.length < 16 ? row : { ...row, references: reader.u32() };
}

export function parseJson<T>(bytes: Uint8Array): T {
  // The checksum of the record vouches for its shape.
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()) as T;
}
