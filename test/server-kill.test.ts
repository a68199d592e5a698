/**
 * A server killed with -9 under load from 64 clients: what it has acknowledged is there after the restart, each transaction whole.
 * BOUGH_TEST_LONG=1 kills it more often.
 */
import { createClient, type Client } from "@libsql/client/http";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStore } from "../src/store/store.ts";
import { testProgram } from "../src/testing/test-program.ts";

const ROUNDS = process.env["BOUGH_TEST_LONG"] === undefined ? 1 : 12;
const CLIENTS = 64;
/** Acknowledged writes before the kill. */
const WRITES = 600;

let directory: string;
let server: ChildProcess | null = null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-server-kill-"));
});
afterEach(() => {
  server?.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

async function start(): Promise<string> {
  const script = testProgram(new URL("server-process.ts", import.meta.url));
  const store = join(directory, "store");
  server = spawn(process.execPath, [script, store], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(server.stdout!, "data");
  return `${String(line).trim()}/`;
}

/** One client: pairs of rows in a batch, or a row by itself, until the server is gone. Returns what was acknowledged. */
async function write(
  client: Client,
  { first, onWritten }: { readonly first: number; readonly onWritten: () => void },
): Promise<{ acknowledged: number[]; last: number }> {
  const acknowledged: number[] = [];
  for (let id = first; ; id++) {
    const insert = (half: number): { sql: string; args: number[] } => ({
      sql: "INSERT INTO entry VALUES (?, ?)",
      args: [id, half],
    });
    try {
      if (id % 2 === 0) await client.batch([insert(0), insert(1)], "write");
      else await client.execute({ sql: "INSERT INTO entry VALUES (?, 0), (?, 1)", args: [id, id] });
    } catch {
      return { acknowledged, last: id };
    }
    acknowledged.push(id);
    onWritten();
  }
}

test(
  "every acknowledged write is there after the restart, and each transaction is whole",
  async () => {
    const expected = new Set<number>();
    let next = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const url = await start();
      const clients = Array.from({ length: CLIENTS }, () => createClient({ url }));
      await clients[0]!.execute("CREATE TABLE IF NOT EXISTS entry(id INT, half INT)");
      let written = 0;
      const ends = await Promise.all(
        clients.map((client, index) =>
          write(client, {
            first: next + index * 100_000,
            onWritten: () => {
              if (++written === WRITES) server?.kill("SIGKILL");
            },
          }),
        ),
      );
      for (const { acknowledged } of ends) for (const id of acknowledged) expected.add(id);
      next += CLIENTS * 100_000;
      for (const client of clients) client.close();
      // The next round, and the check below, open the store again.
      if (server?.exitCode === null && server.signalCode === null) await once(server, "exit");
      const attempted = new Set([...expected, ...ends.map(({ last }) => last)]);
      const found = checkEntries(attempted);
      for (const id of expected) expect(found.has(id), `entry ${id}`).toBe(true);
      for (const id of found) expected.add(id);
    }
    expect(expected.size).toBeGreaterThanOrEqual(ROUNDS * WRITES);
  },
  ROUNDS * 120_000,
);

/** What is there: pairs only, and only what was attempted. */
function checkEntries(attempted: ReadonlySet<number>): Set<number> {
  const store = openStore(join(directory, "store"), { create: false });
  try {
    const connection = store.connect("default");
    expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
    const rows = connection
      .prepare<[], { id: number; halves: string }>(
        "SELECT id, group_concat(half ORDER BY half) AS halves FROM entry GROUP BY id",
      )
      .all();
    for (const { id, halves } of rows) {
      expect(halves, `entry ${id}`).toBe("0,1");
      expect(attempted.has(id), `entry ${id} was attempted`).toBe(true);
    }
    return new Set(rows.map(({ id }) => id));
  } finally {
    store.close();
  }
}
