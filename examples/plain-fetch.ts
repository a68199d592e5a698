/** No client at all, one request of Hrana over HTTP: `npx tsx examples/plain-fetch.ts http://127.0.0.1:8080/shop/` */

interface Pipeline {
  readonly results: readonly (
    | {
        readonly type: "ok";
        readonly response: {
          readonly result?: { readonly rows: readonly (readonly { readonly value: string }[])[] };
        };
      }
    | {
        readonly type: "error";
        readonly error: { readonly code: string; readonly message: string };
      }
  )[];
}

const [url = "http://127.0.0.1:8080/"] = process.argv.slice(2);

/** The rows of the last statement, as texts. The statements are one transaction. */
async function query(...statements: { sql: string; args?: object[] }[]): Promise<string[][]> {
  const requests = [{ sql: "BEGIN" }, ...statements, { sql: "COMMIT" }].map((stmt) => ({
    type: "execute",
    stmt,
  }));
  const response = await fetch(`${url}v2/pipeline`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    // Closing the stream rolls back what a failure has left open.
    body: JSON.stringify({ requests: [...requests, { type: "close" }] }),
  });
  if (!response.ok) throw new Error(await response.text());
  const { results } = (await response.json()) as Pipeline;
  for (const result of results)
    if (result.type === "error") throw new Error(`${result.error.code}: ${result.error.message}`);
  const last = results[statements.length];
  const rows = last?.type === "ok" ? (last.response.result?.rows ?? []) : [];
  return rows.map((row) => row.map(({ value }) => value));
}

await query({ sql: "CREATE TABLE IF NOT EXISTS visit(page TEXT)" });
const rows = await query(
  { sql: "DELETE FROM visit" },
  { sql: "INSERT INTO visit VALUES (?)", args: [{ type: "text", value: "/home" }] },
  { sql: "SELECT count(*), page FROM visit GROUP BY page" },
);
console.log(rows.map((row) => row.join(" ")).join("\n"));
