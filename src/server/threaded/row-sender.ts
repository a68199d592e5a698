/**
 * Takes the rows of a statement in the thread that runs it, and sends them in batches; what does not fill one goes with the end of the statement.
 *
 * U1. It stands still while the other side has more than WINDOW_BYTES that it has not taken (O1 in connection-message.ts).
 * U2. The other side may want no more: the statement ends then, and what it ends with is for nobody.
 */
import type { ResultColumn, RowSink } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import { packRows } from "../../threads/carried-values.ts";
import {
  BATCH_BYTES,
  type ConnectionEvent,
  type RowBatch,
  WINDOW_BYTES,
} from "./connection-message.ts";

type Send = (event: ConnectionEvent, transfer: readonly ArrayBuffer[]) => void;

export class RowSender implements RowSink {
  readonly wantsRows: boolean;
  readonly #send: Send;
  #columns: readonly ResultColumn[] | null = null;
  #rows: SqliteValue[][] = [];
  #bytes = 0;
  /** Sent, and not taken. */
  #sentBytes = 0;
  #isEnded = false;
  #wake: (() => void) | null = null;

  constructor(wantsRows: boolean, send: Send) {
    this.wantsRows = wantsRows;
    this.#send = send;
  }

  begin(columns: readonly ResultColumn[]): void {
    this.#columns = columns;
  }

  row(values: SqliteValue[]): boolean {
    this.#rows.push(values);
    this.#bytes += bytesOf(values);
    return this.#bytes >= BATCH_BYTES;
  }

  async drained(): Promise<void> {
    const transfer: ArrayBuffer[] = [];
    const batch = this.take(transfer);
    this.#sentBytes += batch.bytes;
    this.#send({ kind: "rows", batch }, transfer);
    while (this.#sentBytes > WINDOW_BYTES && !this.#isEnded)
      await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#isEnded) throw new NotWantedError();
  }

  /** The other side has taken so many bytes. */
  taken(bytes: number): void {
    this.#sentBytes -= bytes;
    this.#wake?.();
  }

  /** U2. Also for one that waits and is to be interrupted. */
  end(): void {
    this.#isEnded = true;
    this.#wake?.();
  }

  /** What has not been sent yet. */
  take(transfer: ArrayBuffer[]): RowBatch {
    const rows = this.#rows;
    const batch = {
      columns: this.#columns,
      rows,
      hasBlobs: packRows(rows, transfer),
      bytes: this.#bytes,
    };
    this.#columns = null;
    this.#rows = [];
    this.#bytes = 0;
    return batch;
  }
}

class NotWantedError extends Error {}

/** About what they take in a message. */
function bytesOf(values: readonly SqliteValue[]): number {
  let bytes = 16;
  for (const value of values) {
    if (typeof value === "string") bytes += 2 * value.length;
    else if (typeof value === "object" && value !== null) bytes += value.byteLength;
    bytes += 8;
  }
  return bytes;
}
