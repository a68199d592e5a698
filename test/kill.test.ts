/** A real process on the real disk, killed at random moments: what it had acknowledged is there, and nothing half-done. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import type { KillEvent } from "./kill-process.ts";
import { testProgram } from "../src/testing/test-program.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 31 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const ROUNDS = isLong ? 200 : 5;

let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-kill-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** What the process said until it was killed. */
async function runAndKill(path: string, seed: number, delayMs: number): Promise<KillEvent[]> {
  const program = testProgram(new URL("kill-process.ts", import.meta.url));
  const child = spawn(process.execPath, [program, path, String(seed)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8");
  let timer: NodeJS.Timeout | undefined;
  child.stdout.on("data", (part: string) => {
    text += part;
    if (timer === undefined && text.includes('"ready"'))
      timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
  });
  const code = await closed(child);
  expect(code, "the process ends by being killed").toBe("SIGKILL");
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as KillEvent);
}

function closed(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(signal ?? String(code)));
  });
}

/** Brings `counts` up to what was acknowledged; the event that was begun and not ended, if any. */
function acknowledge(counts: Map<string, number>, events: readonly KillEvent[]): KillEvent | null {
  let open: KillEvent | null = null;
  for (const event of events) {
    if (event.kind === "ready") continue;
    open = event.kind === "begin" ? event : null;
    if (event.kind === "begin") continue;
    if (event.what === "fork") counts.set(event.branch, event.count);
    else for (const [branch, count] of event.counts) counts.set(branch, count);
  }
  return open;
}

function countsOf(store: Store): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { name, revision } of store.database("shop").branches()) {
    using connection = store.connect(revision);
    expect(connection.pragma("integrity_check", { simple: true }), revision).toBe("ok");
    const value = connection.prepare("SELECT value FROM counter").pluck().get();
    const entries = connection
      .prepare("SELECT count(*) AS count, coalesce(max(id), 0) AS last FROM entry")
      .get();
    expect(entries, revision).toEqual({ count: value, last: value });
    counts.set(name, Number(value));
  }
  return counts;
}

function showCounts(counts: ReadonlyMap<string, number>): string {
  return JSON.stringify([...counts].sort(([left], [right]) => (left < right ? -1 : 1)));
}

/** Every commit of a branch has one entry more than the one before. */
function verifyHistory(store: Store, random: Random): void {
  for (const branch of store.database("shop").branches()) {
    const log = branch.log();
    const [newest] = log;
    const first = log.at(-1)!.version;
    for (let count = 0; count < 10; count++) {
      const index = random.integer(0, log.length - 1);
      using connection = store.connect(`${branch.revision}@${log[index]!.version}`);
      const value = connection.prepare("SELECT value FROM counter").pluck().get();
      expect(value, `${branch.revision}@${log[index]!.version}`).toBe(log.length - 1 - index);
      const entries = connection.prepare("SELECT count(*) FROM entry").pluck().get();
      expect(entries).toBe(value);
    }
    expect(newest!.version).toBeGreaterThanOrEqual(first);
  }
}

describe("kill -9", () => {
  test(
    "loses nothing that was acknowledged and leaves nothing half-done",
    { timeout: 3_600_000 },
    async () => {
      const random = new Random(SEED);
      let counts = new Map<string, number>([["main", 0]]);
      let commits = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const events = await runAndKill(directory, SEED * 1000 + round, random.integer(20, 600));
        const open = acknowledge(counts, events);
        commits += events.filter(({ kind }) => kind === "end").length;
        const withOpen = new Map(counts);
        if (open !== null) acknowledge(withOpen, [{ ...open, kind: "end" } as KillEvent]);
        const store = openStore(directory);
        const found = countsOf(store);
        const shown = showCounts(found);
        const possible = [counts, withOpen].map(showCounts);
        expect(possible, `seed ${SEED}, round ${round}`).toContain(shown);
        verifyHistory(store, random);
        store.close();
        counts = found;
      }
      expect(commits).toBeGreaterThan(ROUNDS * 5);
    },
  );
});
