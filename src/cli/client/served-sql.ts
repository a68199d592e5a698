/**
 * SQL on a server, as a stream of Hrana 3: each statement is a batch of one for the cursor, whose rows are taken as they come.
 *
 * S1. A statement that nobody wants the rest of is given up together with its stream, unless the stream may have something to keep: then
 *     its rows are read to the end and dropped.
 * S2. When an answer does not come to its end, the stream is gone, and what was open in it is rolled back.
 */
import type { IncomingMessage } from "node:http";
import { parseRevision } from "../../branch/revision.ts";
import { RESERVED } from "../../server/route.ts";
import type { ArgumentValue, ExecuteRequest, RowSink } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import type { SqlConnection } from "../command-store.ts";
import type { HttpClient } from "./http-client.ts";
import { answerInvalid, errorOf, unreachable } from "./server-error.ts";

/** What leaves nothing on the stream beside what it does to the database. */
const PLAIN = /^\s*(?:delete|explain|insert|replace|select|update|values|with)\b/i;

export class ServedSqlConnection implements SqlConnection {
  readonly #client: HttpClient;
  readonly #path: string;
  readonly #headers: Readonly<Record<string, string>>;
  /** Null: the next request begins a stream. */
  #baton: string | null = null;
  #isPlain = true;

  private constructor(client: HttpClient, revision: string) {
    this.#client = client;
    const { database } = parseRevision(revision);
    // A path never names a database of such a name.
    const isReserved = RESERVED.has(database);
    this.#path = isReserved ? "" : `/${revision.split("/").map(encodeURIComponent).join("/")}`;
    this.#headers = isReserved ? { "x-namespace": revision } : {};
  }

  /** Throws what keeps the revision from being opened. */
  static async open(client: HttpClient, revision: string): Promise<ServedSqlConnection> {
    const connection = new ServedSqlConnection(client, revision);
    await connection.#ask({ type: "get_autocommit" });
    return connection;
  }

  async execute({ sql, values, namedValues }: ExecuteRequest, sink: RowSink): Promise<void> {
    this.#isPlain &&= PLAIN.test(sql);
    const named_args = namedValues.map(({ name, value }) => ({
      name,
      value: encodeArgument(value),
    }));
    const args = values.map(encodeArgument);
    const stmt = { sql, args, named_args, want_rows: sink.wantsRows };
    const baton = this.#baton;
    this.#baton = null; // S2.
    const response = await this.#client.open({
      method: "POST",
      path: `${this.#path}/v3/cursor`,
      headers: this.#headers,
      body: { baton, batch: { steps: [{ stmt }] } },
    });
    await this.#take(response, sink);
  }

  async isReadOnly(sql: string): Promise<boolean> {
    const { result } = await this.#ask({ type: "describe", sql });
    return isRecord(result) && result["is_readonly"] === true;
  }

  async inTransaction(): Promise<boolean> {
    // A stream that has nothing to keep has ended.
    if (this.#baton === null) return false;
    return (await this.#ask({ type: "get_autocommit" }))["is_autocommit"] === false;
  }

  async close(): Promise<void> {
    if (this.#baton === null) return;
    // If it cannot be told, it ends by itself.
    await this.#ask({ type: "close" }).catch(() => {});
    this.#baton = null;
  }

  async #take(response: IncomingMessage, sink: RowSink): Promise<void> {
    let refused: Error | null = null;
    let failure: Error | null = null;
    let isEnded = false;
    let baton: string | null = null;
    for await (const lines of this.#lines(response)) {
      let isFull = false;
      for (const line of lines) {
        const entry = this.#record(line);
        if (entry["type"] === undefined) baton = batonOf(entry);
        else if (entry["type"] === "step_error") failure = this.#errorOf(entry["error"]);
        else if (entry["type"] === "error") throw this.#errorOf(entry["error"]);
        else if (entry["type"] === "replication_index") isEnded = true;
        else if (refused === null)
          try {
            isFull = this.#give(entry, sink) || isFull;
          } catch (error) {
            refused = error instanceof Error ? error : new Error(String(error));
          }
      }
      if (refused !== null && this.#isPlain) {
        response.destroy(); // S1.
        throw refused;
      }
      if (isFull) await sink.drained();
    }
    if (!isEnded) throw unreachable(this.#client.name, new Error("the connection was lost"));
    // One whose transaction took too long answers nothing else any more.
    this.#baton = isDead(failure) ? null : baton;
    const thrown = failure ?? refused;
    if (thrown !== null) throw thrown;
  }

  #give(entry: Readonly<Record<string, unknown>>, sink: RowSink): boolean {
    if (entry["type"] === "row") return sink.row(decodeRow(entry["row"]));
    if (entry["type"] === "step_begin") sink.begin(columnsOf(entry["cols"]));
    return false;
  }

  /** As many as have come, at a time. */
  async *#lines(response: IncomingMessage): AsyncGenerator<string[]> {
    let rest = "";
    for await (const piece of this.#client.pieces(response.setEncoding("utf8"))) {
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      yield lines;
    }
  }

  async #ask(request: object): Promise<Readonly<Record<string, unknown>>> {
    const baton = this.#baton;
    this.#baton = null; // S2.
    const answer = await this.#client.json({
      method: "POST",
      path: `${this.#path}/v3/pipeline`,
      headers: this.#headers,
      body: { baton, requests: [request] },
    });
    const results = isRecord(answer) ? answer["results"] : null;
    const result: unknown = Array.isArray(results) ? results[0] : null;
    if (!isRecord(answer) || !isRecord(result)) throw this.#invalid();
    if (result["type"] !== "ok") {
      const error = this.#errorOf(result["error"]);
      this.#baton = isDead(error) ? null : batonOf(answer);
      throw error;
    }
    this.#baton = batonOf(answer);
    const { response } = result;
    if (!isRecord(response)) throw this.#invalid();
    return response;
  }

  #record(text: string): Readonly<Record<string, unknown>> {
    const value = this.#client.parse(text);
    if (!isRecord(value)) throw this.#invalid();
    return value;
  }

  #errorOf(value: unknown): Error {
    return errorOf(value) ?? this.#invalid();
  }

  #invalid(): Error {
    return answerInvalid(this.#client.name, "it is not of Hrana 3");
  }
}

function isDead(error: Error | null): boolean {
  if (error === null || !("code" in error)) return false;
  return error.code === "TRANSACTION_TIMEOUT" || error.code === "STREAM_EXPIRED";
}

function batonOf({ baton }: Readonly<Record<string, unknown>>): string | null {
  return typeof baton === "string" ? baton : null;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function columnsOf(value: unknown): { name: string; declaredType: null }[] {
  const columns: unknown[] = Array.isArray(value) ? value : [];
  return columns.map((column) => ({
    name: isRecord(column) ? String(column["name"]) : "",
    declaredType: null,
  }));
}

function encodeArgument(value: ArgumentValue): object {
  if (value === null) return { type: "null" };
  if (typeof value === "bigint") return { type: "integer", value: String(value) };
  if (typeof value === "number") return { type: "float", value };
  if (typeof value === "string") return { type: "text", value };
  return { type: "blob", base64: Buffer.from(value).toString("base64") };
}

interface EncodedValue {
  readonly type: string;
  readonly value?: string | number;
  readonly base64?: string;
}

function decodeRow(row: unknown): SqliteValue[] {
  // Checked value by value.
  const values = row as EncodedValue[];
  return values.map(decodeValue);
}

function decodeValue({ type, value, base64 = "" }: EncodedValue): SqliteValue {
  switch (type) {
    case "integer":
      return BigInt(value ?? 0);
    case "float":
      return Number(value);
    case "text":
      return String(value);
    case "blob":
      return Buffer.from(base64, "base64");
    case "null":
      return null;
    default:
      throw new TypeError(`The server sent a value of type "${type}"`);
  }
}
