/** The command as a real process: streams, pipes that close early, exit codes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { CommandDirectory } from "../testing/run-command.ts";
import { testProgram } from "../testing/test-program.ts";

const SCRIPT = testProgram(new URL("bough.ts", import.meta.url));

let directory: CommandDirectory;

beforeEach(async () => {
  directory = new CommandDirectory();
  await directory.ok(["database", "create", "shop"]);
});

afterEach(async () => {
  await directory.end();
});

function start(...words: readonly string[]): ChildProcess {
  return spawn(process.execPath, [SCRIPT, ...words], {
    env: { ...process.env, BOUGH_STORE: directory.file("store") },
  });
}

async function textOf(stream: NodeJS.ReadableStream | null): Promise<string> {
  let text = "";
  for await (const piece of stream ?? []) text += piece.toString();
  return text;
}

test("results go to stdout, errors to stderr, and the exit code says which", async () => {
  const child = start("sql", "shop", "--output", "json");
  child.stdin?.end("SELECT 1 AS a; SELECT nothing;");
  const [stdout, stderr, [exitCode]] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, "close"),
  ]);
  expect({ stdout, exitCode }).toEqual({ stdout: '[{"a":1}]\n', exitCode: 1 });
  expect(JSON.parse(stderr)).toMatchObject({ error: { code: "SQLITE_ERROR" } });
});

test("a reader that leaves early ends the command quietly, statements after that still run", async () => {
  const rows =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000) SELECT x FROM n";
  const child = start("sql", "shop", `${rows}; CREATE TABLE after(a)`, "--output", "csv");
  child.stdout?.once("data", () => child.stdout?.destroy());
  const [stderr, [exitCode]] = await Promise.all([textOf(child.stderr), once(child, "close")]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  expect(await directory.json(["sql", "shop", "SELECT name FROM sqlite_schema"])).toEqual([
    { name: "after" },
  ]);
});

test("a store that another process holds is refused, with the process named", async () => {
  const child = start("shell", "shop");
  child.stdin?.write("SELECT 'ready';\n.log\n");
  await new Promise<void>((ready) => {
    let text = "";
    child.stdout?.on("data", (piece: Buffer) => {
      text += piece.toString();
      if (text.includes("ready")) ready();
    });
  });
  try {
    const { exitCode, stderr } = await directory.bough(["database", "list", "--output", "json"]);
    expect(exitCode).toBe(1);
    const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
    expect(error.code).toBe("STORE_LOCKED");
    expect(error.message).toContain(String(child.pid));
  } finally {
    child.kill("SIGKILL");
    await once(child, "close");
  }
  expect(await directory.json(["database", "list"])).toHaveLength(1);
});

test("a killed server leaves a socket behind, and the store is opened as without it", async () => {
  const child = start("serve", "--port", "0", "--output", "json");
  const [line] = await once(child.stdout!, "data");
  const { url } = JSON.parse(String(line)) as { url: string };
  const insert = "CREATE TABLE t(a); INSERT INTO t VALUES (1)";
  await directory.ok(["sql", "shop", insert]); // By the socket: the store is the server's.
  const rows = ["sql", "shop", "SELECT a FROM t"];
  expect(await directory.json([...rows, "--url", url], { env: { BOUGH_STORE: "" } })).toEqual([
    { a: 1 },
  ]);
  // One that is in the middle of an answer.
  const long =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000000) SELECT x FROM n";
  const reader = start("sql", "shop", long, "--output", "csv");
  await once(reader.stdout!, "data");
  reader.stdout?.resume();
  const ended = Promise.all([textOf(reader.stderr), once(reader, "close")]);
  child.kill("SIGKILL");
  await once(child, "close");
  const [stderr, [exitCode]] = await ended;
  expect(exitCode).toBe(1);
  expect(stderr).toContain("Cannot reach server");
  expect(existsSync(directory.file("store/server.sock"))).toBe(true);
  expect(await directory.json(rows)).toEqual([{ a: 1 }]);
  // And the next server replaces it.
  await directory.serve();
  expect(await directory.json(rows)).toEqual([{ a: 1 }]);
});

test("an import that is killed while it uploads leaves nothing at the server", async () => {
  await directory.serve();
  await directory.ok(["sql", "shop", "CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(1000))"]);
  const [header, pages] = [directory.file("shop.db"), directory.file("large.db")];
  await directory.ok(["export", "shop", header]);
  // As large as its header says, so that the upload takes its time.
  const bytes = readFileSync(header);
  const pageCount = 200_000;
  bytes.writeUInt32BE(pageCount, 28);
  writeFileSync(pages, bytes);
  truncateSync(pages, pageCount * 4096);
  const child = start("import", pages, "copy");
  const uploads = directory.file("store/uploads");
  await expect
    .poll(() => existsSync(uploads) && readdirSync(uploads).length > 0, { timeout: 60_000 })
    .toBe(true);
  child.kill("SIGKILL");
  await once(child, "close");
  await expect.poll(() => readdirSync(uploads), { timeout: 60_000 }).toEqual([]);
  expect(await directory.json(["database", "list"])).toMatchObject([{ name: "shop" }]);
});
