/**
 * From JSON to Hrana's requests. Written out, because every request of every client passes here; the schemas of the admin API are
 * checked by a library. Whatever is not as the protocol says is refused as REQUEST_INVALID, with the name of the field.
 *
 * D1. A batch refers to steps before the one with the condition only, so that a condition never waits for anything.
 * D2. Nothing is deeper than CONDITION_DEPTH_MAX.
 */
import { StoreError } from "../../errors.ts";
import type { ArgumentValue, NamedArgument } from "../../sqlite/async-executor.ts";
import type {
  BatchCondition,
  BatchStep,
  CursorRequest,
  HranaStatement,
  PipelineRequest,
  SocketMessage,
  SocketRequest,
  SqlReference,
  StreamRequest,
} from "./protocol.ts";

type Json = Readonly<Record<string, unknown>>;

const CONDITION_DEPTH_MAX = 32;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const INTEGER = /^[+-]?[0-9]{1,20}$/;
const NO_VALUES: readonly never[] = [];

export function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StoreError("REQUEST_INVALID", "Cannot read the request: it is no JSON", {
      cause: error,
    });
  }
}

export function decodePipeline(body: unknown): PipelineRequest {
  const { baton, requests } = object(body, "the body");
  return {
    baton: optional(baton, "baton", text),
    requests: list(requests, "requests").map((request) => decodeStreamRequest(request)),
  };
}

export function decodeCursor(body: unknown): CursorRequest {
  const { baton, batch } = object(body, "the body");
  return { baton: optional(baton, "baton", text), steps: decodeBatch(batch) };
}

export function decodeStreamRequest(value: unknown): StreamRequest {
  const request = object(value, "a request");
  const type = text(request["type"], "type");
  switch (type) {
    case "execute":
      return { type, statement: decodeStatement(request["stmt"]) };
    case "batch":
      return { type, steps: decodeBatch(request["batch"]) };
    case "sequence":
    case "describe":
      return { type, sql: decodeSql(request) };
    case "store_sql":
      return {
        type,
        sqlId: integer(request["sql_id"], "sql_id"),
        sql: text(request["sql"], "sql"),
      };
    case "close_sql":
      return { type, sqlId: integer(request["sql_id"], "sql_id") };
    case "get_autocommit":
    case "close":
      return { type };
    default:
      throw invalid(`there is no request of type "${shorten(type)}"`);
  }
}

export function decodeSocketMessage(body: unknown): SocketMessage {
  const message = object(body, "a message");
  const type = text(message["type"], "type");
  if (type === "hello") return { type, jwt: optional(message["jwt"], "jwt", text) };
  if (type !== "request") throw invalid(`there is no message of type "${shorten(type)}"`);
  return {
    type,
    requestId: integer(message["request_id"], "request_id"),
    request: message["request"],
  };
}

export function decodeSocketRequest(value: unknown): SocketRequest {
  const fields = object(value, "a request");
  const { type } = fields;
  if (type === "open_stream" || type === "close_stream")
    return { type, streamId: integer(fields["stream_id"], "stream_id") };
  const request = decodeStreamRequest(value);
  if (request.type === "store_sql" || request.type === "close_sql") return request;
  if (request.type === "close") throw invalid('there is no request of type "close"');
  return { type: "stream", streamId: integer(fields["stream_id"], "stream_id"), request };
}

export function decodeStatement(value: unknown): HranaStatement {
  const statement = object(value, "stmt");
  const { args, named_args: namedArgs, want_rows: wantRows } = statement;
  return {
    sql: decodeSql(statement),
    values: isAbsent(args) ? NO_VALUES : list(args, "args").map((each) => decodeValue(each)),
    namedValues: isAbsent(namedArgs)
      ? NO_VALUES
      : list(namedArgs, "named_args").map((each) => decodeNamed(each)),
    wantsRows: isAbsent(wantRows) ? true : boolean(wantRows, "want_rows"),
  };
}

export function decodeBatch(value: unknown): BatchStep[] {
  const { steps } = object(value, "batch");
  return list(steps, "steps").map((each, index) => {
    const { condition, stmt } = object(each, "a step");
    return {
      condition: isAbsent(condition) ? null : decodeCondition(condition, index, 0),
      statement: decodeStatement(stmt),
    };
  });
}

/** D1, D2. */
function decodeCondition(value: unknown, before: number, depth: number): BatchCondition {
  if (depth > CONDITION_DEPTH_MAX)
    throw invalid(`a condition is deeper than ${CONDITION_DEPTH_MAX}`);
  const condition = object(value, "condition");
  const type = text(condition["type"], "type");
  switch (type) {
    case "ok":
    case "error": {
      const step = integer(condition["step"], "step");
      if (step < 0 || step >= before)
        throw invalid(
          `the condition of step ${before} refers to step ${step}, which is not before`,
        );
      return { type, step };
    }
    case "not":
      return { type, condition: decodeCondition(condition["cond"], before, depth + 1) };
    case "and":
    case "or":
      return {
        type,
        conditions: list(condition["conds"], "conds").map((each) =>
          decodeCondition(each, before, depth + 1),
        ),
      };
    case "is_autocommit":
      return { type };
    default:
      throw invalid(`there is no condition of type "${shorten(type)}"`);
  }
}

function decodeSql(holder: Json): SqlReference {
  const { sql, sql_id: sqlId } = holder;
  if (isAbsent(sql) === isAbsent(sqlId)) throw invalid('one of "sql" and "sql_id" must be given');
  return isAbsent(sqlId) ? { sql: text(sql, "sql") } : { sqlId: integer(sqlId, "sql_id") };
}

function decodeNamed(value: unknown): NamedArgument {
  const named = object(value, "a named argument");
  return { name: text(named["name"], "name"), value: decodeValue(named["value"]) };
}

export function decodeValue(value: unknown): ArgumentValue {
  const given = object(value, "a value");
  const type = text(given["type"], "type");
  switch (type) {
    case "null":
      return null;
    case "text":
      return text(given["value"], "value");
    case "integer":
      return decodeInteger(text(given["value"], "value"));
    case "float":
      if (typeof given["value"] !== "number") throw invalid('"value" of a float is not a number');
      return given["value"];
    case "blob":
      return decodeBase64(text(given["base64"], "base64"));
    default:
      throw invalid(`there is no value of type "${shorten(type)}"`);
  }
}

function decodeInteger(digits: string): bigint {
  const value = INTEGER.test(digits) ? BigInt(digits) : INT64_MAX + 1n;
  if (value >= INT64_MIN && value <= INT64_MAX) return value;
  throw invalid(`"${shorten(digits)}" is not an integer of 64 bits`);
}

/** With or without padding, in either alphabet. */
function decodeBase64(base64: string): Uint8Array {
  const bytes = Buffer.from(base64, "base64");
  let { length } = base64;
  while (length > 0 && base64.charCodeAt(length - 1) === 0x3d) length--;
  // Node ends at the first character that does not belong there.
  if (bytes.length !== Math.floor((length * 3) / 4)) throw invalid('"base64" is not base64');
  return bytes;
}

function isAbsent(value: unknown): value is null | undefined {
  return value === undefined || value === null;
}

function optional<T>(
  value: unknown,
  name: string,
  read: (value: unknown, name: string) => T,
): T | null {
  return isAbsent(value) ? null : read(value, name);
}

export function object(value: unknown, name: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid(`${name} is not an object`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return value as Json;
}

export function list(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(`"${name}" is not a list`);
  return value;
}

export function text(value: unknown, name: string): string {
  if (typeof value !== "string") throw invalid(`"${name}" is not a string`);
  return value;
}

/** Of 32 bits. */
function integer(value: unknown, name: string): number {
  if (typeof value !== "number" || (value | 0) !== value)
    throw invalid(`"${name}" is not an integer of 32 bits`);
  return value;
}

function boolean(value: unknown, name: string): boolean {
  if (typeof value !== "boolean") throw invalid(`"${name}" is not true or false`);
  return value;
}

function shorten(word: string): string {
  return word.length > 40 ? `${word.slice(0, 40)}...` : word;
}

export function invalid(fact: string): StoreError {
  return new StoreError("REQUEST_INVALID", `Cannot read the request: ${fact}`);
}
