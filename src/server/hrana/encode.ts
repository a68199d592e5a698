/**
 * From results to Hrana's JSON, as text: the objects in between would cost more than the query that most requests are.
 *
 * Integers are decimal strings, so that 64 bits are exact; blobs are base64 without padding, as the protocol's own server sends
 * them. A float that JSON has no number for is written as one that readers round to infinity.
 */
import { StoreError } from "../../errors.ts";
import type { Executed, ResultColumn, StatementDescription } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import type { HranaVersion } from "./protocol.ts";

/** Less than the longest string of JavaScript, so that it can be put into a line. */
const ROW_LENGTH_MAX = 2 ** 28;

const columnTexts = new WeakMap<readonly ResultColumn[], string>();

export function encodeColumns(columns: readonly ResultColumn[]): string {
  const known = columnTexts.get(columns);
  if (known !== undefined) return known;
  const parts = columns.map(
    ({ name, declaredType }) =>
      `{"name":${JSON.stringify(name)},"decltype":${JSON.stringify(declaredType)}}`,
  );
  const text = `[${parts.join(",")}]`;
  columnTexts.set(columns, text);
  return text;
}

/** Throws RESPONSE_TOO_LARGE. */
export function encodeRow(values: readonly SqliteValue[]): string {
  let text = "[";
  try {
    for (let index = 0; index < values.length; index++)
      text += index === 0 ? encodeValue(values[index]!) : `,${encodeValue(values[index]!)}`;
  } catch (cause) {
    throw rowTooLong(cause);
  }
  if (text.length > ROW_LENGTH_MAX) throw rowTooLong();
  return `${text}]`;
}

/** `cause`: no string is as long. */
function rowTooLong(cause?: unknown): StoreError {
  return new StoreError(
    "RESPONSE_TOO_LARGE",
    `Cannot answer: a row has more than ${ROW_LENGTH_MAX} characters in JSON; ask for parts of its values, with substr()`,
    { cause },
  );
}

export function encodeValue(value: SqliteValue): string {
  if (typeof value === "bigint") return `{"type":"integer","value":"${value}"}`;
  if (typeof value === "string") return `{"type":"text","value":${JSON.stringify(value)}}`;
  if (typeof value === "number") return `{"type":"float","value":${encodeFloat(value)}}`;
  return value === null ? '{"type":"null"}' : `{"type":"blob","base64":"${encodeBase64(value)}"}`;
}

function encodeFloat(value: number): string {
  if (Number.isFinite(value)) return Object.is(value, -0) ? "-0.0" : String(value);
  return value < 0 ? "-1e999" : "1e999";
}

function encodeBase64(bytes: Buffer): string {
  const text = bytes.toString("base64");
  const padding = bytes.length % 3;
  return padding === 0 ? text : text.slice(0, padding - 3);
}

/** What one statement has answered. `rows`: the rows, encoded, with commas between. */
export interface StatementAnswer extends Executed {
  readonly columns: string;
  readonly rows: string;
  readonly rowCount: number;
  readonly durationMs: number;
}

export function encodeResult(answer: StatementAnswer, version: HranaVersion): string {
  const { columns, rows, rowCount, changes, lastInsertRowid, durationMs } = answer;
  const start = `{"cols":${columns},"rows":[${rows}],"affected_row_count":${changes},"last_insert_rowid":"${lastInsertRowid}"`;
  if (version < 3) return `${start}}`;
  return `${start},"rows_read":${rowCount},"rows_written":${changes},"query_duration_ms":${durationMs.toFixed(3)}}`;
}

export function encodeDescription(description: StatementDescription): string {
  const { parameters, columns, isExplain, isReadOnly } = description;
  const params = parameters.map((name) => `{"name":${JSON.stringify(name)}}`).join(",");
  return `{"params":[${params}],"cols":${encodeColumns(columns)},"is_explain":${isExplain},"is_readonly":${isReadOnly}}`;
}
