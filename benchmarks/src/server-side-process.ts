/**
 * One server of the comparison, in a process of its own: `bough`, a bare node:http server that answers everything alike, or
 * better-sqlite3 behind that same server. Prints its port, and its memory when asked; ends with its standard input.
 */
import { createServer, type IncomingMessage } from "node:http";
import path from "node:path";
import type BetterSqlite3 from "better-sqlite3";
import { serveStore } from "../../src/server/serve.ts";
import { CONNECTION_BYTES_MAX } from "../../src/server/setting-list.ts";
import { openStore } from "../../src/store/store.ts";
import { fillCustomers } from "./reads.ts";
import { bareAnswer, type ServerSide, TABLE_ROWS } from "./server-requests.ts";
import { loadBetterSqlite3 } from "./sides.ts";

interface Request {
  readonly requests: readonly {
    readonly stmt?: PlainStatement;
    readonly batch?: { readonly steps: readonly { readonly stmt: PlainStatement }[] };
  }[];
}

interface PlainStatement {
  readonly sql: string;
  readonly args?: readonly { readonly value: unknown }[];
}

async function start(side: ServerSide, root: string, directory: string): Promise<number> {
  switch (side) {
    case "bough":
      return await startBough(directory);
    case "bare":
      return await listen(bareAnswer);
    case "better-sqlite3":
      return await listen(sqliteAnswers(root, directory));
  }
}

async function startBough(directory: string): Promise<number> {
  const store = openStore(directory, { connectionBytesMax: CONNECTION_BYTES_MAX }); // As bough serve.
  store.createDatabase("data");
  const connection = store.connect("data");
  fillCustomers(connection, TABLE_ROWS);
  connection.close();
  await store.checkpointAsync(); // What it needs would count for the streams that are opened meanwhile.
  const server = await serveStore(store, { settings: { port: 0 } });
  return Number(new URL(server.url).port);
}

function sqliteAnswers(root: string, directory: string): (body: string) => string {
  const { open } = loadBetterSqlite3(root);
  const database = new open(path.join(path.dirname(directory), `${path.basename(directory)}.db`));
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.pragma("cache_size = -16000");
  fillCustomers(database, TABLE_ROWS);
  const statements = new Map<string, BetterSqlite3.Statement<unknown[]>>();
  const run = ({ sql, args = [] }: PlainStatement): unknown => {
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = database.prepare<unknown[]>(sql);
      statements.set(sql, statement);
    }
    const values = args.map(({ value }) => value);
    return statement.reader ? statement.all(...values) : statement.run(...values);
  };
  return (body) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const { requests } = JSON.parse(body) as Request;
    const results = requests.flatMap(({ stmt, batch }) => {
      if (stmt !== undefined) return [run(stmt)];
      return batch === undefined ? [] : [batch.steps.map((step) => run(step.stmt))];
    });
    return JSON.stringify({ baton: null, base_url: null, results });
  };
}

async function listen(answer: (body: string) => string): Promise<number> {
  const server = createServer((request, response) => {
    void readAll(request).then((body) => {
      const text = answer(body);
      response.writeHead(200, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
      });
      response.end(text);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

function readAll(request: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on("end", () => resolve(body));
  });
}

const [side = "", root = "", directory = ""] = process.argv.slice(2);
// oxlint-disable-next-line typescript/no-unsafe-type-assertion
process.stdout.write(`${await start(side as ServerSide, root, directory)}\n`);
// Each line is answered with the memory of the process.
process.stdin.on("data", () => {
  globalThis.gc?.();
  process.stdout.write(`${process.memoryUsage.rss()}\n`);
});
process.stdin.on("end", () => process.exit(0));
