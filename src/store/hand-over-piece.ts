/**
 * What a database is sent in when it is handed over to another partition. Plain data, so that the partitions may be in different
 * threads. In this order: history, then nodes and chunks as a walk of the page maps meets them, page hashes, rows, names.
 */
import type { OutcomeRow } from "../catalog/outcome-run.ts";
import type { DatabaseRow } from "../catalog/rows.ts";
import type { HistoryEntry } from "../page/history-format.ts";

export type HandOverPiece =
  | {
      readonly type: "history";
      /** Of the partition that it comes from. */
      readonly segment: number;
      /** In order, over all pieces of the segment. */
      readonly entries: readonly HistoryEntry[];
      readonly isLast: boolean;
    }
  | {
      readonly type: "pages";
      readonly nodes: readonly { readonly id: Uint8Array; readonly bytes: Uint8Array }[];
      readonly chunks: readonly ChunkPiece[];
    }
  | {
      readonly type: "hashes";
      readonly hashes: readonly {
        readonly hash: Uint8Array;
        readonly chunkId: Uint8Array;
        readonly slot: number;
      }[];
    }
  | { readonly type: "rows"; readonly rows: readonly RowPiece[] }
  | {
      readonly type: "names";
      readonly database: DatabaseRow;
      readonly rows: readonly RowPiece[];
      readonly outcomes: readonly OutcomeRow[];
    };

export interface ChunkPiece {
  readonly id: Uint8Array;
  /** As stored: partitions have the same keys. */
  readonly bytes: Uint8Array;
  readonly slotCount?: number;
  readonly present?: bigint;
}

/** A row of the catalog whose key begins with the database. */
export interface RowPiece {
  readonly table: number;
  /** Without table and database. */
  readonly key: Uint8Array;
  /** Without its checksum, which covers the key. */
  readonly value: Uint8Array;
}
