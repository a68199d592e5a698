/**
 * The partition that a database leaves.
 *
 *   begin --next, next, ... null--> sent --finish--> gone          begin, sent --abort--> as before
 *
 * V1. From `begin` on the database takes no commit and no change of names: BRANCH_BUSY, which may be tried again. It is read as ever.
 * V2. What is sent is the catalog's state after a checkpoint: all commits, none of them in the log only.
 * V3. Nothing that is to be sent goes meanwhile: garbage collection waits, expiry leaves the database out.
 * V4. Transactions that read go on after it: what they read is kept for as long as they do.
 */
import { decodeRootRow, decodeTimeline, Table } from "../catalog/catalog.ts";
import { ByteWriter, openValue } from "../catalog/record-codec.ts";
import { visitRows } from "../catalog/table-rows.ts";
import { openHistoryFile } from "../checkpoint/history-files.ts";
import { StoreError } from "../errors.ts";
import { decodeHistoryReference, type HistoryEntry, HistoryKind } from "../page/history-format.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { corruptNode, visitNode } from "../page/page-map-node.ts";
import type { PageMapRoot } from "../page/page-map.ts";
import { LiveSet } from "../retention/mark.ts";
import { waiting } from "../storage/not-local.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { Engine } from "./engine.ts";
import type { ChunkPiece, HandOverPiece, RowPiece } from "./hand-over-piece.ts";
import { openDatabaseNamed } from "./resolve-revision.ts";

/** About what a piece takes. */
const PIECE_BYTES = 1024 * 1024;
const ROWS_PER_PIECE = 1024;
const ID_SIZE = 16;

export class HandOverSource {
  readonly #engine: Engine;
  readonly #database: OpenDatabase;
  readonly #hold: Disposable;
  readonly #pieces: Generator<HandOverPiece, void, void>;
  /** What was sent. */
  readonly #live: LiveSet = new LiveSet();

  private constructor(engine: Engine, database: OpenDatabase) {
    this.#engine = engine;
    this.#database = database;
    this.#hold = engine.collector.hold();
    this.#pieces = this.#send();
  }

  /** V1. `to` is the partition's number. Throws BRANCH_BUSY when a transaction writes to the database. */
  static async begin(engine: Engine, name: string, to: number): Promise<HandOverSource> {
    engine.assertWritable();
    const database = openDatabaseNamed(engine, name);
    if (database.movingTo !== undefined)
      throw busy(name, `it is being handed over to partition ${database.movingTo}`);
    for (const timeline of database.timelines.values())
      if (timeline.writer !== null) throw busy(name, "a transaction is writing to it");
    database.movingTo = to;
    const source = new HandOverSource(engine, database);
    try {
      await engine.checkpointAsync();
      return source;
    } catch (error) {
      source.abort();
      throw error;
    }
  }

  get databaseId(): number {
    return this.#database.refs.row.id;
  }

  /** Null: all has been sent. Throws CORRUPT_* for what is damaged. */
  next(): HandOverPiece | null {
    this.#engine.assertWritable();
    const step = waiting(() => this.#pieces.next());
    return step.done === true ? null : step.value;
  }

  /** The other partition has the database: it goes from here. When this fails, opening the store again makes it go. */
  finish(): void {
    try {
      this.#engine.forgetDatabase(this.#database);
    } finally {
      this.#hold[Symbol.dispose]();
    }
  }

  /** Commits are taken again; not to be called once the other partition may have the database. */
  abort(): void {
    delete this.#database.movingTo;
    this.#hold[Symbol.dispose]();
  }

  *#send(): Generator<HandOverPiece, void, void> {
    yield* this.#sendHistory();
    yield* this.#sendPages();
    yield* this.#sendHashes();
    for (const table of [Table.commit, Table.root]) {
      let rows: RowPiece[] = [];
      for (const row of this.#rows(table))
        if (rows.push(row) === ROWS_PER_PIECE) {
          yield { type: "rows", rows };
          rows = [];
        }
      if (rows.length > 0) yield { type: "rows", rows };
    }
    const { outcomes } = this.#engine.state;
    const names = [Table.branch, Table.timeline, Table.tag].map((table) => [...this.#rows(table)]);
    yield {
      type: "names",
      database: { ...this.#database.refs.row },
      rows: names.flat(),
      outcomes: outcomes.ofDatabase(this.databaseId),
    };
  }

  *#sendHistory(): Generator<HandOverPiece, void, void> {
    const { catalog, storage, storeId, cipher } = this.#engine.state;
    const segments = [...catalog.historySegments()].filter(
      (row) => row.databaseId === this.databaseId,
    );
    for (const { segment } of segments) {
      // A file of its own: those that readers share are closed when enough others are opened.
      const file = openHistoryFile(storage, segment);
      try {
        const reader = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
        let entries: HistoryEntry[] = [];
        let bytes = 0;
        for (const entry of reader.entries()) {
          entries.push({ ...entry, payload: Uint8Array.from(entry.payload) });
          bytes += entry.payload.length;
          if (bytes < PIECE_BYTES && entries.length < ROWS_PER_PIECE) continue;
          yield { type: "history", segment, entries, isLast: false };
          yield* this.#chunksOf(entries);
          entries = [];
          bytes = 0;
        }
        yield { type: "history", segment, entries, isLast: true };
        yield* this.#chunksOf(entries);
      } finally {
        file.closeSync();
      }
    }
  }

  /** Those that entries of the history refer to. */
  *#chunksOf(entries: readonly HistoryEntry[]): Generator<HandOverPiece, void, void> {
    for (const { kind, payload } of entries) {
      if (kind !== HistoryKind.reference) continue;
      const { chunkId } = decodeHistoryReference(payload);
      const chunk = this.#chunk(chunkId);
      if (chunk !== null) yield { type: "pages", nodes: [], chunks: [chunk] };
    }
  }

  *#sendPages(): Generator<HandOverPiece, void, void> {
    for (const { key, value } of this.#rows(Table.root))
      yield* this.#walk(decodeRootRow(withHead(Table.root, 0, key), value).root);
    for (const { value } of this.#rows(Table.timeline)) {
      const { root } = decodeTimeline(value);
      if (root !== null) yield* this.#walk(root);
    }
  }

  *#walk({
    nodeId,
    levels,
  }: Pick<PageMapRoot, "nodeId" | "levels">): Generator<HandOverPiece, void, void> {
    if (nodeId === null || !this.#live.nodes.add(nodeId, 0, 1, 0)) return;
    const { catalog, cipher } = this.#engine.state;
    const waitingNodes = [{ id: nodeId, level: levels }];
    let nodes: { id: Uint8Array; bytes: Uint8Array }[] = [];
    let chunks: ChunkPiece[] = [];
    let size = 0;
    for (let next = waitingNodes.pop(); next !== undefined; next = waitingNodes.pop()) {
      const { id, level } = next;
      const stored = catalog.node(id);
      if (stored === undefined) throw corruptNode(id, "the catalog does not have it");
      const bytes = Uint8Array.from(stored);
      nodes.push({ id, bytes });
      size += bytes.length;
      const chunkIds: Uint8Array[] = [];
      visitNode(
        bytes,
        { id, level, cipher },
        {
          child: (from, offset) => {
            if (!this.#live.nodes.add(from, offset, 1, 0)) return;
            waitingNodes.push({ id: from.slice(offset, offset + ID_SIZE), level: level - 1 });
          },
          chunk: (from, offset) => chunkIds.push(from.slice(offset, offset + ID_SIZE)),
        },
      );
      for (const chunkId of chunkIds) {
        const chunk = this.#chunk(chunkId);
        if (chunk === null) continue;
        chunks.push(chunk);
        size += chunk.bytes.length;
        if (size < PIECE_BYTES) continue;
        yield { type: "pages", nodes, chunks };
        nodes = [];
        chunks = [];
        size = 0;
      }
    }
    yield { type: "pages", nodes, chunks };
  }

  /** Null: it was sent before, or is lost (page-writer.ts, W5), which reads the same without it. */
  #chunk(id: Uint8Array): ChunkPiece | null {
    if (this.#live.chunks.has(id)) return null;
    const { catalog, chunks } = this.#engine.state;
    const place = catalog.chunk(id);
    if (place === undefined) return null;
    this.#live.chunk(id);
    const { slotCount, present } = place;
    return {
      id,
      bytes: Uint8Array.from(chunks.readStored(id, place)),
      ...(slotCount === undefined ? {} : { slotCount }),
      ...(present === undefined ? {} : { present }),
    };
  }

  /** By which a writer finds the pages that were sent. */
  *#sendHashes(): Generator<HandOverPiece, void, void> {
    const { store } = this.#engine.state.catalog;
    let after: Uint8Array | null = null;
    do {
      const hashes: { hash: Uint8Array; chunkId: Uint8Array; slot: number }[] = [];
      const options = { after, limit: ROWS_PER_PIECE };
      after = visitRows(store, Table.pageHash, options, (key, value) => {
        const place = openValue(key, value, "a page hash");
        const chunkId = Uint8Array.from(place.subarray(0, ID_SIZE));
        if (!this.#live.chunks.has(chunkId)) return;
        hashes.push({ hash: Uint8Array.from(key.subarray(1)), chunkId, slot: place[ID_SIZE]! });
      });
      // Also without any: the event loop runs between pieces, and the table has rows of all databases.
      yield { type: "hashes", hashes };
    } while (after !== null);
  }

  *#rows(table: number): Generator<RowPiece, void, void> {
    const head = withHead(table, this.databaseId, new Uint8Array(0));
    let after: Uint8Array | null = head;
    do {
      const rows: RowPiece[] = [];
      let isPast = false;
      const options: { after: Uint8Array; limit: number } = { after, limit: ROWS_PER_PIECE };
      after = visitRows(this.#engine.state.catalog.store, table, options, (key, value) => {
        isPast ||= Buffer.compare(key.subarray(0, head.length), head) !== 0;
        if (isPast) return;
        rows.push({
          table,
          key: Uint8Array.from(key.subarray(head.length)),
          value: Uint8Array.from(openValue(key, value, "a row of a database")),
        });
      });
      yield* rows;
      if (isPast) return;
    } while (after !== null);
  }
}

/** The key of a row in the catalog. */
export function withHead(table: number, databaseId: number, key: Uint8Array): Uint8Array {
  return new ByteWriter(5 + key.length).u8(table).u32(databaseId).raw(key).bytes;
}

function busy(name: string, fact: string): StoreError {
  return new StoreError("BRANCH_BUSY", `Cannot hand over database "${name}": ${fact}`, {
    retryable: true,
    details: { database: name },
  });
}
