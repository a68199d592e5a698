/**
 * The partition that a database comes to.
 *
 *   begin --put, put, ...--> all but names is stored --install--> here          begin, stored --abort--> as before
 *
 * W1. Until `install` nothing names what was put: rows are those of a database that does not exist, under a number that no other
 *     gets: the first of them is durable together with the next number. `install` makes all of it visible in one transaction of the catalog.
 * W2. Chunks are durable before the catalog has them, history before its row.
 * W3. Garbage collection waits meanwhile, and expiry leaves the files of the history alone: they have rows, or a holder.
 * W4. A chunk that is here already stays, and gets the pages that it lacks.
 * W5. Whether an `install` that failed took place is known when the store has been opened again; nothing is written till then.
 */
import {
  CatalogBatch,
  type CheckpointedTimeline,
  decodeTimeline,
  Table,
} from "../catalog/catalog.ts";
import { sealValue } from "../catalog/record-codec.ts";
import type { OutcomeRow } from "../catalog/outcome-run.ts";
import type { BranchRow, DatabaseRow, TagRow } from "../catalog/rows.ts";
import { HISTORY_DIRECTORY, historyPath } from "../checkpoint/history-files.ts";
import { loadDatabase } from "../checkpoint/recovery.ts";
import { invariant } from "../errors.ts";
import { type ChunkLocation, idKey } from "../page/chunk-handle.ts";
import { decodeChunk, type DecodedChunk, encodeChunk } from "../page/chunk-format.ts";
import { HistoryWriter } from "../page/history-writer.ts";
import type { StorageFile } from "../storage/storage.ts";
import type { PageHolder, Tracer } from "../transaction/tracer.ts";
import type { Engine } from "./engine.ts";
import type { ChunkPiece, HandOverPiece, RowPiece } from "./hand-over-piece.ts";
import { withHead } from "./hand-over-source.ts";

/** Bytes of chunks that are made durable at once, before their rows are in the catalog. */
const FLUSH_BYTES = 16 * 1024 * 1024;

type Names = Extract<HandOverPiece, { type: "names" }>;

export class HandOverTarget implements PageHolder {
  readonly databaseId: number;
  readonly #engine: Engine;
  readonly #hold: Disposable;
  /** From the segments' numbers where they come from to those here. */
  readonly #segments: Map<number, number> = new Map();
  #history: { readonly number: number; readonly file: StorageFile; writer: HistoryWriter } | null =
    null;
  #batch: CatalogBatch = new CatalogBatch();
  /** Of `#batch`, by id. */
  readonly #stored: Map<string, ChunkLocation> = new Map();
  #storedBytes = 0;
  #names: Names | null = null;
  /** W1. The catalog has a greater number for the next database. */
  #isNumberKept = false;

  private constructor(engine: Engine) {
    this.#engine = engine;
    this.databaseId = engine.state.refs.nextDatabaseId++;
    this.#hold = engine.collector.dropping();
    engine.state.holders.add(this);
    engine.state.arriving.add(this.databaseId);
  }

  /** Nothing is written yet. */
  static begin(engine: Engine): HandOverTarget {
    engine.assertWritable();
    return new HandOverTarget(engine);
  }

  /** W3. */
  trace(tracer: Tracer): void {
    for (const segment of this.#segments.values()) tracer.historySegment(segment);
  }

  put(piece: HandOverPiece): void {
    const engine = this.#engine;
    engine.assertWritable();
    engine.orFail(() => {
      switch (piece.type) {
        case "history":
          this.#putHistory(piece);
          break;
        case "pages":
          this.#putPages(piece);
          break;
        case "hashes":
          this.#putHashes(piece);
          break;
        case "rows":
          for (const row of piece.rows) this.#putRow(row);
          this.#flush();
          break;
        case "names":
          this.#names = piece;
          break;
      }
    });
  }

  /** W1, W5. After the last piece. */
  install(): void {
    const engine = this.#engine;
    const names = this.#names;
    invariant(names !== null, "All of a database has come before it is installed");
    engine.checkpoint(); // In this turn: outcomes of before are in rows of lower LSNs.
    engine.orFail(() => {
      this.#flush();
      const { state } = engine;
      const batch = this.#batch;
      const database = { ...names.database, id: this.databaseId };
      batch.putDatabase(database);
      for (const row of names.rows) this.#putRow(row);
      const outcomes = this.#putOutcomes(batch, names.outcomes);
      batch.setState(engine.catalogState());
      batch.commit(state.catalog.store);
      state.outcomes.adopt(state.log.lastLsn, outcomes);
      loadDatabase(state, this.#rowsOf(database, names.rows));
    });
    engine.databaseCame();
    this.#end();
  }

  /** What was put goes again. When that fails it goes when the store is opened. */
  abort(): void {
    try {
      this.#history?.file.closeSync();
      const engine = this.#engine;
      engine.assertWritable();
      engine.orFail(() => forgetRows(engine, this.databaseId));
    } finally {
      this.#end();
    }
  }

  #end(): void {
    this.#engine.state.holders.delete(this);
    this.#engine.state.arriving.delete(this.databaseId);
    this.#hold[Symbol.dispose]();
  }

  #putHistory({ segment, entries, isLast }: Extract<HandOverPiece, { type: "history" }>): void {
    const { storage } = this.#engine.state;
    const history = (this.#history ??= this.#beginHistory(segment));
    for (const entry of entries) history.writer.add(entry);
    if (!isLast) return;
    const { size, references } = history.writer.finish();
    history.file.syncSync();
    history.file.closeSync();
    this.#history = null;
    storage.syncDirectorySync(HISTORY_DIRECTORY);
    storage.syncDirectorySync("");
    const { databaseId } = this;
    this.#batch.putHistory({ segment: history.number, databaseId, size, references });
    this.#flush();
  }

  #beginHistory(segment: number): { number: number; file: StorageFile; writer: HistoryWriter } {
    const { storage, storeId, cipher, codec } = this.#engine.state;
    const number = this.#engine.takeHistorySegment();
    this.#segments.set(segment, number);
    storage.makeDirectorySync(HISTORY_DIRECTORY);
    const file = storage.openFileSync(historyPath(number), { mode: "create" });
    const { databaseId } = this;
    const meta = { storeId, segmentNumber: number, databaseId, cipher, codec };
    return { number, file, writer: new HistoryWriter(file, meta) };
  }

  #putPages({ nodes, chunks }: Extract<HandOverPiece, { type: "pages" }>): void {
    const { catalog } = this.#engine.state;
    for (const chunk of chunks) this.#putChunk(chunk);
    for (const { id, bytes } of nodes)
      if (catalog.node(id) === undefined) this.#batch.putNode(id, bytes);
    if (this.#storedBytes >= FLUSH_BYTES) this.#flush();
  }

  /** W4. What is here, but not in the catalog yet, is stored again: only the catalog says what is durable. */
  #putChunk(piece: ChunkPiece): void {
    const { catalog, chunks } = this.#engine.state;
    const here = catalog.chunk(piece.id);
    if (here !== undefined && covers(here.present, piece.present)) return;
    const { id, bytes, slotCount, present } =
      here?.present === undefined || covers(piece.present, here.present)
        ? piece
        : this.#united(piece, here);
    const location = {
      ...chunks.append({ id, bytes }),
      ...(slotCount === undefined ? {} : { slotCount }),
      ...(present === undefined ? {} : { present }),
    };
    this.#batch.putChunk(id, location);
    this.#stored.set(idKey(id), location);
    this.#storedBytes += bytes.length;
  }

  /** The pages that either has. */
  #united(piece: ChunkPiece, here: ChunkLocation): ChunkPiece {
    const { chunks, cipher, codec } = this.#engine.state;
    const { id } = piece;
    const place = "a chunk that is handed over";
    const sources = [
      chunks.readChunk(id, here),
      decodeChunk(piece.bytes, { expectedId: id, cipher, place }),
    ];
    const [{ pageSize, slotCount }] = sources as [DecodedChunk, DecodedChunk];
    const present = sources.reduce((slots, source) => slots | source.present, 0n);
    const pages: Uint8Array[] = [];
    for (let slot = 0; slot < slotCount; slot++) {
      const page = sources[0]!.page(slot) ?? sources[1]!.page(slot);
      if (page !== null) pages.push(page);
    }
    const { bytes } = encodeChunk({
      pages: Buffer.concat(pages),
      pageSize,
      codec,
      cipher,
      holes: { id, slotCount, present },
    });
    return { id, bytes, slotCount, present };
  }

  #putHashes({ hashes }: Extract<HandOverPiece, { type: "hashes" }>): void {
    const { catalog } = this.#engine.state;
    for (const { hash, chunkId, slot } of hashes)
      if (catalog.page(hash) === undefined) this.#batch.putPage(hash, { chunkId, slot });
  }

  #putRow(row: RowPiece): void {
    const key = withHead(row.table, this.databaseId, row.key);
    this.#batch.putStored(key, sealValue(key, this.#here(row)));
  }

  /** The value with the numbers that are this partition's. */
  #here({ table, value }: RowPiece): Uint8Array {
    const { databaseId } = this;
    if (table === Table.commit) return value;
    if (table === Table.root) return this.#rootHere(value);
    const json = jsonOf<{ databaseId: number; row: { databaseId: number } }>(value);
    const changed =
      table === Table.timeline
        ? { ...json, row: { ...json.row, databaseId } }
        : { ...json, databaseId };
    return new TextEncoder().encode(JSON.stringify(changed));
  }

  #rootHere(value: Uint8Array): Uint8Array {
    const view = new DataView(value.buffer, value.byteOffset, value.length);
    const segment = view.getUint32(value.length - 4);
    if (segment === 0) return value;
    const number = this.#segments.get(segment);
    invariant(number !== undefined, `Segment ${segment}, which a root names, has come`);
    const here = Uint8Array.from(value);
    new DataView(here.buffer).setUint32(here.length - 4, number);
    return here;
  }

  #rowsOf(database: DatabaseRow, rows: readonly RowPiece[]): Parameters<typeof loadDatabase>[1] {
    const of = <T>(table: number, decode: (value: Uint8Array) => T): T[] =>
      rows.filter((row) => row.table === table).map((row) => decode(this.#here(row)));
    return {
      database,
      branches: of<BranchRow>(Table.branch, jsonOf),
      tags: of<TagRow>(Table.tag, jsonOf),
      timelines: of<CheckpointedTimeline>(Table.timeline, decodeTimeline),
    };
  }

  /** Into the row of the last LSN, with those that it has. */
  #putOutcomes(batch: CatalogBatch, came: readonly OutcomeRow[]): OutcomeRow[] {
    const { databaseId } = this;
    const rows = came.map((row) => ({ ...row, databaseId }));
    if (rows.length === 0) return rows;
    const { catalog, log } = this.#engine.state;
    const here = [...catalog.outcomeRuns()].find(({ lsn }) => lsn === log.lastLsn);
    batch.putOutcomeRun(log.lastLsn, [...(here?.transactions ?? []), ...rows]);
    return rows;
  }

  /** W2. */
  #flush(): void {
    const { catalog, chunks, handles } = this.#engine.state;
    if (this.#stored.size > 0) chunks.syncSync();
    if (!this.#isNumberKept) this.#batch.setState(this.#engine.catalogState());
    this.#batch.commit(catalog.store);
    this.#isNumberKept = true;
    this.#batch = new CatalogBatch();
    for (const [key, location] of this.#stored) {
      const handle = handles.find(key);
      if (handle !== null) chunks.relocate(handle, location);
    }
    this.#stored.clear();
    this.#storedBytes = 0;
  }
}

/** All rows of a database that was not installed. */
export function forgetRows(engine: Engine, databaseId: number): void {
  const { catalog, databases } = engine.state;
  invariant(!databases.has(databaseId), `Database ${databaseId} is not installed`);
  const batch = new CatalogBatch();
  batch.deleteDatabase(catalog.store, databaseId);
  batch.commit(catalog.store);
}

/** Whether a chunk with these slots has all of those; undefined: all that there are. */
function covers(present: bigint | undefined, wanted: bigint | undefined): boolean {
  if (present === undefined) return true;
  return wanted !== undefined && (wanted & ~present) === 0n;
}

function jsonOf<T>(value: Uint8Array): T {
  return JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.length).toString()) as T;
}
