/** Collects what statements answer as JSON, up to a limit that all of one request share. */
import { StoreError } from "../../errors.ts";
import type { Executed, ResultColumn } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import type { SendLimit } from "../send-limit.ts";
import type { CountingSink } from "./counting-sink.ts";
import { encodeColumns, encodeRow, type StatementAnswer } from "./encode.ts";

export interface ResponseLimits {
  readonly responseBytesMax: number;
  readonly rowsMax: number;
}

/** Counts characters, which is close enough to bytes for a limit that protects memory. To be released when the answer is on its way. */
export class ResponseBudget {
  readonly #limits: ResponseLimits;
  readonly #sending: SendLimit;
  #left: number;
  #rowsLeft: number;

  constructor({
    settings,
    sending,
  }: {
    readonly settings: ResponseLimits;
    readonly sending: SendLimit;
  }) {
    this.#limits = settings;
    this.#sending = sending;
    this.#left = settings.responseBytesMax;
    this.#rowsLeft = settings.rowsMax;
  }

  /** Of what was done already, and so must be told: only what comes next is refused. */
  note(length: number): void {
    this.#left -= length;
    this.#sending.makingBytes += length;
  }

  /** It is not asked any more. */
  release(): void {
    this.#sending.makingBytes -= this.#limits.responseBytesMax - this.#left;
    this.#left = this.#limits.responseBytesMax;
  }

  take(length: number): void {
    this.note(length);
    if (this.#left < 0) this.#refuse();
  }

  takeRow(length: number): void {
    this.#rowsLeft--;
    this.note(length);
    if (this.#left < 0 || this.#rowsLeft < 0) this.#refuse();
    if (this.#sending.isFull)
      throw new StoreError(
        "RESPONSE_TOO_LARGE",
        "Cannot answer: too many large answers are made at the same time; ask again, or for fewer rows",
        { retryable: true },
      );
  }

  #refuse(): never {
    const { responseBytesMax: bytesMax, rowsMax } = this.#limits;
    const fact = this.#left < 0 ? `${bytesMax} bytes` : `${rowsMax} rows`;
    throw new StoreError(
      "RESPONSE_TOO_LARGE",
      `Cannot answer: the results have more than ${fact}; ask for fewer rows, or use a cursor`,
      { details: { bytesMax, rowsMax } },
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
    this.#budget.takeRow(text.length + 1);
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
