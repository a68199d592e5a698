/** How `bough serve` starts and stops, as a process; and what the server refuses before it listens. */
import { createClient } from "@libsql/client/http";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { serveStore } from "../src/server/serve.ts";
import { kebabName } from "../src/server/setting-name.ts";
import { openStore } from "../src/store/store.ts";
import { ServedDirectory } from "./server-fixture.ts";
import { testProgram } from "../src/testing/test-program.ts";

const command: string = testProgram(new URL("../src/cli/bough.ts", import.meta.url));
let directory: string;
let running: ChildProcess | null = null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-serve-"));
});
afterEach(() => {
  running?.kill("SIGKILL");
  running = null;
  rmSync(directory, { recursive: true, force: true });
});

function spawnServe(...words: string[]): ChildProcess {
  running = spawn(
    process.execPath,
    [command, "serve", "--store", join(directory, "store"), "--port", "0", ...words],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  return running;
}

describe("bough serve", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "makes a store, says its URL, and ends at %s with everything closed",
    async (signal) => {
      const child = spawnServe();
      const [line] = await once(child.stdout!, "data");
      const url = /http:\S+/.exec(String(line))?.[0] ?? "";
      expect(String(line)).toBe(`Serving store "${join(directory, "store")}" at ${url}\n`);
      const client = createClient({ url });
      await client.batch(["CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"], "write");
      const open = await client.transaction("write");
      await open.execute("INSERT INTO t VALUES (2)");
      child.kill(signal);
      const [code] = await once(child, "exit");
      expect(code).toBe(0);
      client.close();
      using store = openStore(join(directory, "store"), { create: false });
      expect(store.connect("default").prepare("SELECT a FROM t").all()).toEqual([{ a: 1 }]);
    },
  );

  test("refuses an address that others reach, and settings out of range", async () => {
    for (const [words, code, message] of [
      [["--host", "0.0.0.0"], 1, "without authentication"],
      [["--stream-idle-ms", "0"], 2, '"--stream-idle-ms"'],
    ] as const) {
      const child = spawnServe(...words);
      const errors: Buffer[] = [];
      child.stderr!.on("data", (chunk: Buffer) => errors.push(chunk));
      const [exitCode] = await once(child, "close");
      expect(exitCode).toBe(code);
      expect(Buffer.concat(errors).toString()).toContain(message);
    }
  });
});

describe("a server that stops", () => {
  test("answers what it was asked, and begins nothing new", async () => {
    const served = await ServedDirectory.start();
    served.store.createDatabase("shop");
    const holder = await served.post("/shop/v2/pipeline", {
      requests: [
        { type: "sequence", sql: "CREATE TABLE t(a); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)" },
      ],
    });
    const waiting = served.post("/shop/v1/execute", { stmt: { sql: "INSERT INTO t VALUES (2)" } });
    while (served.server.streams.size < 2) await new Promise((resolve) => setImmediate(resolve));
    const commit = served.post("/shop/v2/pipeline", {
      baton: holder.body.baton,
      requests: [{ type: "execute", stmt: { sql: "COMMIT" } }, { type: "close" }],
    });
    expect((await commit).status).toBe(200);
    const stopped = served.server.stop();
    expect((await waiting).body.result.affected_row_count).toBe(1);
    await stopped;
    await expect(served.post("/shop/v1/execute", { stmt: { sql: "SELECT 1" } })).rejects.toThrow();
    const rows = served.store.connect("shop").prepare("SELECT a FROM t").all();
    expect(rows).toEqual([{ a: 1 }, { a: 2 }]);
    await served[Symbol.asyncDispose]();
    expect(served.bugs).toEqual([]);
  });

  test("starts on a free port only, and only with settings that there are", async () => {
    await using served = await ServedDirectory.start();
    const { port } = new URL(served.server.url);
    await expect(
      serveStore(served.store, { settings: { port: Number(port) } }),
    ).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
    await expect(serveStore(served.store, { settings: { prot: 1 } })).rejects.toThrow(
      /Cannot use these settings of the server: .*"prot"/,
    );
    await expect(
      serveStore(served.store, { settings: { host: "0.0.0.0", port: 0 } }),
    ).rejects.toMatchObject({ code: "LISTEN_UNPROTECTED" });
  });

  test("regression: settings of tokens are refused where no key would verify one", async () => {
    await using served = await ServedDirectory.start();
    for (const settings of [
      { authAudience: "shop" },
      { authIssuer: "me" },
      { authWithoutClaims: true },
      { revocations: join(directory, "revoked.json") },
    ])
      await expect(
        serveStore(served.store, { settings: { port: 0, ...settings } }),
      ).rejects.toThrow(
        `Cannot use "${kebabName(Object.keys(settings)[0] ?? "")}" without a key for tokens`,
      );
  });
});
