import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test } from "vitest";

import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openNodeStorage } from "./node-storage.ts";
import { currentProcessIdentity } from "./process-identity.ts";
import { acquireStoreLock, type StoreLock } from "./store-lock.ts";
import { testProgram } from "../testing/test-program.ts";
import { startWorker } from "../worker-program.ts";

const PROGRAM = testProgram(new URL("../testing/store-lock-process.ts", import.meta.url));
const THREAD = new URL("../testing/store-lock-thread.ts", import.meta.url);

class LockProcess {
  readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  private constructor() {
    this.child = spawn(process.execPath, [PROGRAM], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const { stdout } = this.child;
    if (stdout === null) throw new Error("The child has no standard output");
    this.lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  static async start(): Promise<LockProcess> {
    const started = new LockProcess();
    await started.answer();
    return started;
  }

  send(line: string): Promise<string> {
    this.child.stdin?.write(`${line}\n`);
    return this.answer();
  }

  async end(how: "kill" | "exit"): Promise<void> {
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    if (how === "kill") this.child.kill("SIGKILL");
    else this.child.stdin?.write("exit\n");
    await ended;
  }

  private async answer(): Promise<string> {
    const { value, done } = await this.lines.next();
    if (done === true) throw new Error("The child ended without an answer");
    return value;
  }
}

let directory = "";
const locks: StoreLock[] = [];

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-lock-"));
});

afterEach(() => {
  for (const lock of locks.splice(0)) lock.release();
  fs.rmSync(directory, { recursive: true });
});

function acquire(where: string = directory): StoreLock {
  const lock = acquireStoreLock(openNodeStorage(where), { description: "./data" });
  locks.push(lock);
  return lock;
}

/** Writes a lock file as another holder would have left it, `ageMs` ago. */
function leaveLock(changes: Readonly<Record<string, unknown>>, ageMs = 0, where = directory): void {
  const content = {
    nonce: `n${ageMs}`,
    ...currentProcessIdentity(),
    since: "2026-11-01T10:00:00.000Z",
  };
  const path = join(where, "lock");
  fs.writeFileSync(path, JSON.stringify({ ...content, ...changes }));
  const time = new Date(Date.now() - ageMs);
  fs.utimesSync(path, time, time);
}

test("the lock names its holder, and releasing it leaves nothing behind", () => {
  const lock = acquire();
  const content: unknown = JSON.parse(fs.readFileSync(join(directory, "lock"), "utf8"));
  expect(content).toMatchObject({ pid: process.pid, host: currentProcessIdentity().host });
  expect(lock.isHeld()).toBe(true);
  lock.release();
  lock.release();
  expect(lock.isHeld()).toBe(false);
  expect(fs.readdirSync(directory)).toEqual([]);
  expect(acquire().isHeld()).toBe(true);
});

test("the same process is refused a second time", () => {
  acquire();
  expect(() => acquire()).toThrow(
    expect.objectContaining({
      code: "STORE_LOCKED",
      message: expect.stringContaining(
        `Cannot open the store "./data": it is already open in this process (pid ${process.pid})`,
      ),
    }),
  );
});

test("another thread of the same process is refused", async () => {
  const lock = acquire();
  const take = async (): Promise<unknown> => {
    const worker = startWorker(THREAD.href, { workerData: directory });
    return new Promise((resolve, reject) => {
      let message: unknown;
      worker.once("message", (value) => (message = value));
      worker.once("error", reject);
      worker.once("exit", () => resolve(message));
    });
  };
  expect(await take()).toBe("STORE_LOCKED");
  lock.release();
  expect(await take()).toBe("held");
  expect(fs.readdirSync(directory)).toEqual([]);
});

test("a store on the simulated disk is locked by the disk object", () => {
  const storage = new SimulatedStorage();
  const lock = acquireStoreLock(storage, { description: "sim" });
  expect(() => acquireStoreLock(storage, { description: "sim" })).toThrow(
    expect.objectContaining({ code: "STORE_LOCKED" }),
  );
  lock.release();
  acquireStoreLock(storage, { description: "sim" }).release();
});

test("another process is refused with the holder's name, and gets the store when the holder is killed", async () => {
  const [holder, other] = await Promise.all([LockProcess.start(), LockProcess.start()]);
  expect(await holder.send(`take ${directory}`)).toBe("held");
  const refusal = await other.send(`take ${directory}`);
  expect(refusal).toContain("refused STORE_LOCKED");
  expect(refusal).toContain(
    `it is open in process ${holder.child.pid} on host "${currentProcessIdentity().host}"`,
  );
  expect(refusal).toContain("store-lock-process.js");
  await holder.end("kill");
  expect(fs.existsSync(join(directory, "lock"))).toBe(true);
  expect(await other.send(`take ${directory}`)).toBe("held");
  await other.end("exit");
  expect(fs.readdirSync(directory)).toEqual([]);
});

test("of many processes that find the same dead holder's lock at once, one gets it", async () => {
  const dead = await LockProcess.start();
  const identity = { pid: dead.child.pid, startTicks: "1" };
  await dead.end("kill");
  const processes = await Promise.all([1, 2, 3, 4].map(() => LockProcess.start()));
  for (let round = 0; round < 40; round++) {
    const place = fs.mkdtempSync(join(directory, "store-"));
    leaveLock({ ...identity, nonce: `stale${round}` }, 0, place);
    const answers = await Promise.all(
      processes.map((contender) => contender.send(`take ${place}`)),
    );
    expect(
      answers.filter((answer) => answer === "held"),
      `round ${round}: ${answers.join("\n")}`,
    ).toHaveLength(1);
    expect(answers.filter((answer) => answer.startsWith("refused STORE_LOCKED"))).toHaveLength(3);
    await Promise.all(processes.map((contender) => contender.send("release")));
    expect(fs.readdirSync(place)).toEqual([]);
  }
  await Promise.all(processes.map((contender) => contender.end("exit")));
});

test("a process number that another process has now does not block", () => {
  if (currentProcessIdentity().startTicks === null) return;
  leaveLock({ startTicks: "1" });
  expect(acquire().isHeld()).toBe(true);
});

test("a takeover that was interrupted by a crash does not block the next, and is cleaned up", () => {
  const dead = { pid: 0x3fffff, startTicks: "1" };
  leaveLock({ ...dead, nonce: "first" });
  for (const [name, nonce] of [
    ["lock.takeover-first", "second"],
    ["lock.takeover-first.takeover-second", "third"],
    ["lock.second", "second"],
  ] as const) {
    fs.copyFileSync(join(directory, "lock"), join(directory, name));
    const content = fs.readFileSync(join(directory, name), "utf8").replace('"first"', `"${nonce}"`);
    fs.writeFileSync(join(directory, name), content);
  }
  acquire().release();
  expect(fs.readdirSync(directory)).toEqual([]);
});

test("a holder on another host blocks while its heartbeat is fresh, and no longer", () => {
  const elsewhere = { host: "elsewhere", pid: 1, bootId: "other" };
  leaveLock(elsewhere, 30_000);
  expect(() => acquire()).toThrow(
    expect.objectContaining({
      code: "STORE_LOCKED",
      message: expect.stringMatching(/host "elsewhere".*last sign of life 30 s ago/),
    }),
  );
  leaveLock(elsewhere, 61_000);
  const lock = acquire();
  leaveLock(elsewhere, 0);
  expect(lock.isHeld()).toBe(false);
  lock.release();
  expect(fs.existsSync(join(directory, "lock"))).toBe(true);
});

test("a lock file that nobody understands blocks while it is new", () => {
  fs.writeFileSync(join(directory, "lock"), "{");
  expect(() => acquire()).toThrow(
    expect.objectContaining({
      code: "STORE_LOCKED",
      message: expect.stringContaining("cannot be read"),
    }),
  );
  const time = new Date(Date.now() - 120_000);
  fs.utimesSync(join(directory, "lock"), time, time);
  expect(acquire().isHeld()).toBe(true);
});

test("a directory that may not be written is PERMISSION", () => {
  if (process.getuid?.() === 0) return;
  fs.chmodSync(directory, 0o500);
  expect(() => acquire()).toThrow(expect.objectContaining({ code: "PERMISSION" }));
  fs.chmodSync(directory, 0o700);
});
