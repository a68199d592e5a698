/**
 * A server killed with -9 under load from 64 clients that write and read, and go on when it is started again: what it has acknowledged, or
 * shown to anybody, is there; each transaction is whole; no client sees a wrong answer, before or after a kill. What is compared:
 * kill-bank.ts. BOUGH_TEST_LONG=1 kills it more often; BOUGH_TEST_SEED=n does other work, though the moments are never the same.
 */
import { createClient as createHttpClient } from "@libsql/client/http";
import { createClient as createWsClient } from "@libsql/client/ws";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStore } from "../src/store/store.ts";
import { openStoreAsync } from "../src/threads/open-store.ts";
import { Random } from "../src/testing/random.ts";
import { testProgram } from "../src/testing/test-program.ts";
import { AUDIT, AUDITED, Bank } from "./kill-bank.ts";
import { KillClient, type ServerLife } from "./kill-client.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 7 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
/** Ports that no system gives to connections that ask for any. */
const PORTS = { min: 20_000, max: 29_999 };

let directory: string;
let server: KilledServer | null = null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-server-kill-"));
});
afterEach(() => {
  server?.kill();
  rmSync(directory, { recursive: true, force: true });
});

/** What surely happens in each run: a test that does nothing finds nothing. */
const DONE = ["statement", "batch", "interactive", "readOwn", "resolve"];

/** Always at the same address. */
class KilledServer implements ServerLife {
  readonly #threads: number;
  readonly #random: Random;
  #port = 0;
  #process: ChildProcess | null = null;
  #killsLeft: number;
  /** Acknowledged writes until it is killed. */
  #writesLeft = 0;
  #up: Promise<boolean> = Promise.resolve(false);
  starts = 0;
  isDown = true;
  writes = 0;

  constructor(options: {
    readonly threads: number;
    readonly kills: number;
    readonly random: Random;
  }) {
    this.#threads = options.threads;
    this.#killsLeft = options.kills;
    this.#random = options.random;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  isUp(): Promise<boolean> {
    return this.#up;
  }

  wrote(): void {
    this.writes++;
    if (--this.#writesLeft !== 0) return;
    this.kill();
    this.#up = this.#again();
  }

  async start(): Promise<void> {
    if (this.#port === 0) {
      this.#port = this.#random.integer(PORTS.min, PORTS.max);
      while (!(await this.#spawn())) this.#port++;
    } else if (!(await this.#spawn())) expect.fail("the server does not start again");
    // Right after a start, too, while what is lost is still being recovered and asked for.
    this.#writesLeft = isLong ? this.#random.pick([1, 30, 150, 1000]) : 100;
    this.starts++;
    this.isDown = false;
    this.#up = Promise.resolve(true);
  }

  kill(): void {
    this.isDown = true;
    this.#process?.kill("SIGKILL");
  }

  /** Resolves when the process has ended. */
  async gone(): Promise<void> {
    const killed = this.#process;
    if (killed?.exitCode === null && killed.signalCode === null) await once(killed, "exit");
  }

  /** False when there is nothing more to be killed. */
  async #again(): Promise<boolean> {
    await this.gone();
    if (--this.#killsLeft === 0) return false;
    await this.start();
    return true;
  }

  async #spawn(): Promise<boolean> {
    const script = testProgram(new URL("server-process.ts", import.meta.url));
    const args = [script, join(directory, "store"), String(this.#port), String(this.#threads)];
    const started = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = started;
    let errors = "";
    started.stderr.on("data", (data: Buffer) => void (errors += data.toString()));
    const hasStarted = await Promise.race([
      once(started.stdout, "data").then(() => true),
      once(started, "exit").then(() => false),
    ]);
    if (!hasStarted && !errors.includes("EADDRINUSE")) expect.fail(errors);
    return hasStarted;
  }
}

test.each([
  { threads: 0, count: 64, kills: isLong ? 25 : 2 },
  { threads: 2, count: isLong ? 64 : 16, kills: isLong ? 15 : 1 },
])(
  "no client of $count of a server with $threads threads sees a wrong answer, whenever it is killed",
  { timeout: 3_600_000 },
  async ({ threads, count, kills }) => {
    const random = new Random(SEED + threads);
    const life = new KilledServer({ threads, kills, random: random.fork() });
    server = life;
    await life.start();
    const ids = Array.from({ length: count }, (_, id) => id);
    const banks = ["left", "right"].map((name, side) => {
      return new Bank(
        name,
        ids.filter((id) => id % 2 === side),
      );
    });
    for (const [partition, bank] of banks.entries())
      await open(life, bank, threads > 0 ? partition : null);
    const clients = ids.map((id) => {
      const bank = banks[id % 2]!;
      const url = `${life.url}/${bank.name}/`;
      const client =
        id % 8 < 5
          ? createHttpClient({ url })
          : createWsClient({ url: url.replace("http:", "ws:") });
      return {
        client,
        bank,
        teller: new KillClient({ client, bank, id, random: random.fork(), life }),
      };
    });
    await Promise.all(clients.map(({ teller }) => teller.run()));
    // Whatever the last kill has left.
    await life.start();
    await Promise.all(clients.map(({ teller }) => teller.checkOwn()));
    for (const { teller } of clients.slice(0, banks.length)) await teller.checkBank();
    for (const { client } of clients) client.close();
    life.kill();
    await life.gone();
    for (const bank of banks) await checkStore(bank, threads);
    const done = new Map<string, number>();
    for (const { teller } of clients)
      for (const [what, count] of teller.done) done.set(what, count + (done.get(what) ?? 0));
    for (const what of DONE) expect(done.get(what), what).toBeGreaterThan(0);
  },
);

async function open(life: KilledServer, bank: Bank, partition: number | null): Promise<void> {
  const made = await fetch(`${life.url}/api/v1/databases`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: bank.name, ...(partition === null ? {} : { partition }) }),
  });
  expect(made.status, await made.text()).toBe(201);
  const client = createHttpClient({ url: `${life.url}/${bank.name}/` });
  await client.batch(bank.schema(), "write");
  client.close();
}

/** Without a server. */
async function checkStore(bank: Bank, threads: number): Promise<void> {
  const path = join(directory, "store");
  const store =
    threads === 0 ? openStore(path, { create: false }) : await openStoreAsync(path, { threads });
  try {
    const connection = await store.open(bank.name);
    const integrity = await connection.prepare("PRAGMA integrity_check");
    expect(await integrity.all()).toEqual([{ integrity_check: "ok" }]);
    expect(await (await connection.prepare(AUDIT)).get()).toEqual(AUDITED);
    await connection.close();
  } finally {
    await store.close();
  }
}
