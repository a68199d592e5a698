/**
 * The APIs of before streams: each request has a connection of its own.
 *
 *   POST /v1/execute   {"stmt":Stmt}           {"result":StmtResult}
 *   POST /v1/batch     {"batch":Batch}         {"result":BatchResult}
 *   POST /             {"statements":[...]}    [{"results":{"columns":[...],"rows":[[...]]}} | {"error":{...}}, ...]
 */
import type { ServerResponse } from "node:http";
import type { ArgumentValue, ResultColumn } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import { sendJson } from "../http-exchange.ts";
import { decodeBatch, decodeStatement, invalid, list, object, parseBody, text } from "./decode.ts";
import { encodeResult } from "./encode.ts";
import type { Endpoint } from "./endpoint.ts";
import type { CountingSink } from "./counting-sink.ts";
import { closeStream, closeWhenGone, takeStream } from "./pipeline.ts";
import type { BatchStep, HranaStatement } from "./protocol.ts";
import { ResponseBudget } from "./result-text.ts";
import type { HranaStream } from "./stream.ts";

export type StatelessCall = "v1/execute" | "v1/batch" | "root";

export async function answerStateless(
  endpoint: Endpoint,
  {
    call,
    body,
    response,
  }: { readonly call: StatelessCall; readonly body: string; readonly response: ServerResponse },
): Promise<void> {
  const budget = new ResponseBudget(endpoint.context);
  const run = reader(call, object(parseBody(body), "the body"), budget);
  const stream = await takeStream(endpoint, null);
  closeWhenGone(endpoint, stream, response);
  try {
    let answer: string;
    try {
      answer = await run(stream);
      await stream.settled();
    } finally {
      await closeStream(endpoint, stream);
    }
    sendJson(response, 200, answer, endpoint.context);
  } finally {
    budget.release();
  }
}

/** What is wrong with the request is found before anything runs. */
function reader(
  call: StatelessCall,
  body: Readonly<Record<string, unknown>>,
  budget: ResponseBudget,
): (stream: HranaStream) => Promise<string> {
  switch (call) {
    case "v1/execute": {
      const statement = decodeStatement(body["stmt"]);
      return async (stream) =>
        `{"result":${encodeResult(await stream.execute(statement, budget), 1)}}`;
    }
    case "v1/batch": {
      const steps = decodeBatch(body["batch"]);
      return async (stream) => `{"result":${await stream.batch(steps, 1, budget)}}`;
    }
    case "root": {
      const steps = list(body["statements"], "statements").map((each): BatchStep => ({
        condition: null,
        statement: decodePlainStatement(each),
      }));
      return (stream) => runPlain(stream, steps, budget);
    }
  }
}

/** A text, or {"q":text,"params":[values] | {name: value}} with values as JSON has them. */
function decodePlainStatement(value: unknown): HranaStatement {
  if (typeof value === "string") return plain(value, [], {});
  const { q, params } = object(value, "a statement");
  const sql = text(q, "q");
  if (params === undefined || params === null) return plain(sql, [], {});
  return Array.isArray(params) ? plain(sql, params, {}) : plain(sql, [], object(params, "params"));
}

function plain(
  sql: string,
  values: readonly unknown[],
  named: Readonly<Record<string, unknown>>,
): HranaStatement {
  return {
    sql: { sql },
    values: values.map((value) => plainValue(value)),
    namedValues: Object.entries(named).map(([name, value]) => ({
      name,
      value: plainValue(value),
    })),
    wantsRows: true,
  };
}

function plainValue(value: unknown): ArgumentValue {
  if (value === null || typeof value === "string") return value;
  if (typeof value === "number") return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof value === "boolean") return value ? 1n : 0n;
  throw invalid("a parameter is not a number, text, boolean or null");
}

async function runPlain(
  stream: HranaStream,
  steps: readonly BatchStep[],
  budget: ResponseBudget,
): Promise<string> {
  const answers: string[] = [];
  await stream.runBatch<PlainRows>(steps, {
    sinkFor: () => new PlainRows(budget),
    ended: (_, sink) => void answers.push(sink.answer()),
    failed: (_, failure) => {
      budget.note(failure.length);
      answers.push(`{"error":${failure}}`);
    },
    skipped: () => {},
  });
  return `[${answers.join(",")}]`;
}

/** Rows with values as JSON has them; integers beyond 2^53 are rounded by whoever reads them. */
class PlainRows implements CountingSink {
  readonly wantsRows = true;
  readonly #budget: ResponseBudget;
  #columns = "[]";
  readonly #rows: string[] = [];

  constructor(budget: ResponseBudget) {
    budget.take(0);
    this.#budget = budget;
  }

  begin(columns: readonly ResultColumn[]): void {
    this.#columns = JSON.stringify(columns.map(({ name }) => name));
    this.#budget.note(this.#columns.length);
  }

  row(values: readonly SqliteValue[]): boolean {
    const row = `[${values.map((value) => encodePlain(value)).join(",")}]`;
    this.#budget.takeRow(row.length + 1);
    this.#rows.push(row);
    return false;
  }

  async drained(): Promise<void> {}

  get rowCount(): number {
    return this.#rows.length;
  }

  answer(): string {
    return `{"results":{"columns":${this.#columns},"rows":[${this.#rows.join(",")}]}}`;
  }
}

function encodePlain(value: SqliteValue): string {
  if (typeof value === "bigint") return value.toString();
  if (Buffer.isBuffer(value)) return `{"base64":"${value.toString("base64")}"}`;
  return JSON.stringify(value);
}
