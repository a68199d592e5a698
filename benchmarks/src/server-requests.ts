/** What the clients of the server benchmarks ask. */

export type ServerSide = "bough" | "bare" | "better-sqlite3";
export type ServerWork = "read" | "write" | "batch";

export const TABLE_ROWS = 100_000;
export const BATCH_STATEMENTS = 100;

const READ = "SELECT * FROM customer WHERE id = ?";
const WRITE = "UPDATE customer SET visits = visits + 1 WHERE id = ?";
const CLOSE = { type: "close" };

/** The body of the request; `ids` as many rows as it touches. */
export function requestBody(work: ServerWork, ids: readonly number[]): string {
  const statement = (sql: string, id: number): object => ({
    sql,
    args: [{ type: "integer", value: String(id) }],
  });
  switch (work) {
    case "read":
    case "write": {
      const stmt = statement(work === "read" ? READ : WRITE, ids[0] ?? 1);
      return JSON.stringify({ requests: [{ type: "execute", stmt }, CLOSE] });
    }
    case "batch": {
      // As @libsql/client sends a batch.
      const steps: object[] = [{ stmt: { sql: "BEGIN IMMEDIATE" } }];
      for (const id of ids)
        steps.push({
          stmt: statement(WRITE, id),
          condition: { type: "ok", step: steps.length - 1 },
        });
      steps.push({ stmt: { sql: "COMMIT" }, condition: { type: "ok", step: steps.length - 1 } });
      return JSON.stringify({ requests: [{ type: "batch", batch: { steps } }, CLOSE] });
    }
  }
}

const ROW =
  '[{"type":"integer","value":"50000"},{"type":"text","value":"lotos vakami"},{"type":"text","value":"lotos.vakami49999@example.com"},{"type":"text","value":"north"},{"type":"float","value":5274.11},{"type":"integer","value":"250"}]';
const COLUMNS =
  '{"name":"id","decltype":"INTEGER"},{"name":"name","decltype":"TEXT"},{"name":"email","decltype":"TEXT"},{"name":"region","decltype":"TEXT"},{"name":"amount","decltype":"REAL"},{"name":"visits","decltype":"INTEGER"}';

/** What the bare server answers, by what it was asked: as long as what bough does. */
const ANSWERS: Readonly<Record<ServerWork, string>> = {
  read: answer("execute", result(COLUMNS, ROW)),
  write: answer("execute", result("", "")),
  batch: answer("batch", batchResult(BATCH_STATEMENTS + 2)),
};

export function bareAnswer(body: string): string {
  if (body.includes('"batch"')) return ANSWERS.batch;
  return body.includes("SELECT") ? ANSWERS.read : ANSWERS.write;
}

function answer(type: string, text: string): string {
  return `{"baton":null,"base_url":null,"results":[{"type":"ok","response":{"type":"${type}","result":${text}}},{"type":"ok","response":{"type":"close"}}]}`;
}

function result(columns: string, rows: string): string {
  return `{"cols":[${columns}],"rows":[${rows}],"affected_row_count":0,"last_insert_rowid":"0"}`;
}

function batchResult(steps: number): string {
  const all = (text: string): string => Array.from({ length: steps }, () => text).join(",");
  return `{"step_results":[${all(result("", ""))}],"step_errors":[${all("null")}]}`;
}
