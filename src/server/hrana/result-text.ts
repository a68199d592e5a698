/** Collects what statements answer as JSON, up to a limit that all of one request share. */
import { StoreError } from "../../errors.ts";
import type { Executed, ResultColumn } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import type { CountingSink } from "./counting-sink.ts";
import { encodeColumns, encodeRow, type StatementAnswer } from "./encode.ts";

/** Counts characters, which is close enough to bytes for a limit that protects memory. */
export class ResponseBudget {
  readonly #max: number;
  #left: number;

  constructor(bytesMax: number) {
    this.#max = bytesMax;
    this.#left = bytesMax;
  }

  /** Of what was done already, and so must be told: only what comes next is refused. */
  note(length: number): void {
    this.#left -= length;
  }

  take(length: number): void {
    this.note(length);
    if (this.#left >= 0) return;
    throw new StoreError(
      "RESPONSE_TOO_LARGE",
      `Cannot answer: the results have more than ${this.#max} bytes; ask for fewer rows, or use a cursor`,
      { details: { bytesMax: this.#max } },
    );
  }
}

const NOT_LATER: Promise<void> = Promise.resolve();

export class ResultText implements CountingSink {
  readonly wantsRows: boolean;
  readonly #budget: ResponseBudget;
  readonly #startedAt: number = performance.now();
  #columns = "[]";
  #rows = "";
  #rowCount = 0;

  constructor(wantsRows: boolean, budget: ResponseBudget) {
    budget.take(0); // Nothing is run that could not be told.
    this.wantsRows = wantsRows;
    this.#budget = budget;
  }

  begin(columns: readonly ResultColumn[]): void {
    this.#columns = encodeColumns(columns);
    this.#budget.note(this.#columns.length);
  }

  row(values: readonly SqliteValue[]): boolean {
    const text = encodeRow(values);
    this.#budget.take(text.length + 1);
    this.#rows += this.#rowCount === 0 ? text : `,${text}`;
    this.#rowCount++;
    return false;
  }

  drained(): Promise<void> {
    return NOT_LATER;
  }

  get rowCount(): number {
    return this.#rowCount;
  }

  answer({ changes, lastInsertRowid }: Executed): StatementAnswer {
    return {
      changes,
      lastInsertRowid,
      columns: this.#columns,
      rows: this.#rows,
      rowCount: this.#rowCount,
      durationMs: performance.now() - this.#startedAt,
    };
  }
}
