/**
 * Gives rows that come from another thread to a sink, one batch after the other.
 *
 * U3. What the sink throws ends the statement, and is what the statement ends with.
 * U4. A batch is taken when the sink has had all of it, and has drained where it asked for that.
 */
import type { RowSink } from "../../sqlite/async-executor.ts";
import { withBuffers } from "../../threads/carried-values.ts";
import type { RowBatch } from "./connection-message.ts";

export class RowTaker {
  readonly #sink: RowSink;
  readonly #taken: (bytes: number) => void;
  readonly #stop: () => void;
  #waiting: Promise<void> | null = null;
  #failure: { readonly error: unknown } | null = null;

  constructor(
    sink: RowSink,
    { taken, stop }: { readonly taken: (bytes: number) => void; readonly stop: () => void },
  ) {
    this.#sink = sink;
    this.#taken = taken;
    this.#stop = stop;
  }

  /** What the sink has thrown. */
  get failure(): { readonly error: unknown } | null {
    return this.#failure;
  }

  /** One of several. */
  take(batch: RowBatch): void {
    const before = this.#waiting;
    this.#waiting = (async () => {
      await before;
      await this.#feed(batch);
      if (this.#failure === null) this.#taken(batch.bytes);
      else this.#stop();
    })();
  }

  /** After all others. Null: the sink has had it. */
  takeLast(batch: RowBatch): Promise<void> | null {
    const before = this.#waiting;
    if (before !== null) return before.then(() => this.#feed(batch) ?? undefined);
    return this.#feed(batch);
  }

  /** Does not reject (U3). Null: it is done. */
  #feed({ columns, rows, hasBlobs }: RowBatch): Promise<void> | null {
    if (this.#failure !== null) return null;
    try {
      if (hasBlobs) withBuffers(rows);
      if (columns !== null) this.#sink.begin(columns);
      for (const [index, row] of rows.entries())
        if (this.#sink.row(row)) return this.#feedSlowly(rows, index + 1);
    } catch (error) {
      this.#failure = { error };
    }
    return null;
  }

  async #feedSlowly(rows: RowBatch["rows"], from: number): Promise<void> {
    try {
      await this.#sink.drained();
      for (let index = from; index < rows.length; index++)
        if (this.#sink.row(rows[index]!)) await this.#sink.drained();
    } catch (error) {
      this.#failure = { error };
    }
  }
}
