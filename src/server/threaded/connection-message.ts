/**
 * What passes between a connection of the server and the thread that has it.
 *
 *   call            method and parameters, in the order of ServedConnection's calls
 *   event           Batch: rows of the statement that runs, in order
 *   event, answer   Told: what the call has ended with. As an event when what it tells of is not durable yet: then the answer is null, and comes when
 *                   it is, or says why it never will be
 *
 * O1. Of rows on their way there are WINDOW_BYTES and one batch at most: then the statement stands still until some of them are taken.
 */
import type { ResultColumn } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import type { CarriedError } from "../../threads/carried-error.ts";

/** From so many on, about, a batch is sent. */
export const BATCH_BYTES: number = 64 * 1024;
export const WINDOW_BYTES: number = 4 * BATCH_BYTES;

export interface RowBatch {
  /** Null: as before, or not known yet. */
  readonly columns: readonly ResultColumn[] | null;
  readonly rows: SqliteValue[][];
  readonly hasBlobs: boolean;
  /** About. */
  readonly bytes: number;
}

export interface Told {
  readonly isAutocommit: boolean;
  readonly isClean: boolean;
  readonly error: CarriedError | null;
  /** The last rows of a statement. */
  readonly batch: RowBatch | null;
  readonly value: unknown;
}

export type ConnectionEvent =
  | { readonly kind: "rows"; readonly batch: RowBatch }
  | { readonly kind: "told"; readonly told: Told };
