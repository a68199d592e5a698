/**
 * The disaster drill: a process with a store that uploads is killed at a random moment, its disk is thrown away, and the store is
 * opened from object storage: followed, restored, and taken over by another process, which is killed in its turn.
 *
 * Each time everything is there of which the process had said that it is in object storage (with durability "remote", all that it had
 * acknowledged), nothing is half-done, and versions read at random have the hashes recorded when they were made.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ObjectStoreOptions } from "../src/remote/open-object-store.ts";
import { restoreStore } from "../src/store/restore-store.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { Random } from "../src/testing/random.ts";
import { s3Server } from "../src/testing/s3-server.ts";
import { type DisasterEvent, type DisasterOptions, hashOf } from "./disaster-process.ts";
import { testProgram } from "../src/testing/test-program.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 71 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const KEY = "ef".repeat(32);
const server = await s3Server();

let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-disaster-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

interface Drill {
  readonly url: string;
  readonly remote: ObjectStoreOptions;
  readonly random: Random;
  readonly key: string | null;
  readonly durability: "full" | "remote";
}

type CommitEvent = Extract<DisasterEvent, { kind: "commit" }>;

/** What must be there: the newest commit of each branch, and the hashes. */
class Expected {
  readonly heads: Map<string, CommitEvent> = new Map();
  readonly hashes: Map<string, string> = new Map();

  /** Up to the last record that was said to be in object storage. */
  add(events: readonly DisasterEvent[]): void {
    const uploadedLsn = events.reduce(
      (lsn, event) => (event.kind === "uploaded" ? Math.max(lsn, event.lsn) : lsn),
      0,
    );
    for (const event of events) {
      if (event.kind !== "commit" || event.lsn > uploadedLsn) continue;
      this.heads.set(event.branch, event);
      if (event.hash !== null) this.hashes.set(`${event.branch}@${event.version}`, event.hash);
    }
  }
}

async function runAndKill(run: DisasterOptions, delayMs: number): Promise<DisasterEvent[]> {
  const program = testProgram(new URL("disaster-process.ts", import.meta.url));
  const child = spawn(process.execPath, [program, JSON.stringify(run)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8");
  let timer: NodeJS.Timeout | undefined;
  child.stdout.on("data", (part: string) => {
    text += part;
    // Something has gone up; then any moment.
    if (timer === undefined && text.includes('"uploaded"'))
      timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
  });
  expect(await closed(child), "the process ends by being killed").toBe("SIGKILL");
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as DisasterEvent);
}

function closed(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(signal ?? String(code)));
  });
}

function verify(store: Store, expected: Expected, random: Random, label: string): void {
  const found = new Map<string, number>();
  for (const database of store.databases())
    for (const { revision, head } of database.branches()) {
      if (head.version === 0) continue;
      using connection = store.connect(revision);
      const what = `${label}: ${revision}`;
      expect(connection.pragma("integrity_check", { simple: true }), what).toBe("ok");
      const tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
      if (connection.prepare(tables).pluck().get() !== 2) continue; // Killed between the first statements.
      const count = connection.prepare("SELECT coalesce(max(value), 0) FROM counter").pluck().get();
      const entries = "SELECT count(*) AS count, coalesce(max(id), 0) AS last FROM entry";
      expect(connection.prepare(entries).get(), what).toEqual({ count, last: count });
      found.set(revision, Number(count));
    }
  for (const [branch, { count }] of expected.heads)
    expect(found.get(branch), `${label}: ${branch}`).toBeGreaterThanOrEqual(count);
  for (const revision of random.shuffle([...expected.hashes.keys()]).slice(0, 10)) {
    using connection = store.connect(revision);
    expect(hashOf(connection), `${label}: ${revision}`).toBe(expected.hashes.get(revision));
  }
}

async function verifyElsewhere(drill: Drill, expected: Expected, round: number): Promise<void> {
  const { url, remote, random, key } = drill;
  const common: StoreOptions = key === null ? {} : { key };
  const following = join(directory, `follow-${round}`);
  const options = { ...common, directory: following, remote: { url, ...remote } };
  const follower = openStore(url, options);
  verify(follower, expected, random, `follower, round ${round}`);
  follower.close();
  const copy = join(directory, `copy-${round}`);
  const { check } = await restoreStore(url, copy, { ...common, remote });
  expect(check?.problems).toEqual([]);
  const restored = openStore(copy, common);
  verify(restored, expected, random, `copy, round ${round}`);
  restored.close();
}

async function drill(given: Drill): Promise<void> {
  const { url, remote, random, key, durability } = given;
  const expected = new Expected();
  const common: StoreOptions = {
    durability,
    logSegmentBytes: 64 * 1024,
    checkpointBytes: 256 * 1024,
    transactionBytesMax: 64 * 1024,
    ...(key === null ? {} : { key }),
  };
  for (let round = 0; round < 2; round++) {
    const local = join(directory, `writer-${round}`);
    const flushIntervalMs = random.pick([0, 20, 200]);
    const options = { ...common, remote: { url, flushIntervalMs, ...remote } };
    const events = await runAndKill(
      {
        path: round === 0 ? local : url,
        seed: random.nextUint32(),
        options: round === 0 ? options : { ...options, mode: "write", directory: local },
      },
      random.integer(0, 900),
    );
    rmSync(local, { recursive: true, force: true });
    expected.add(events);
    expect(expected.heads.size).toBeGreaterThan(0);
    await verifyElsewhere(given, expected, round);
  }
  const last = openStore(url, {
    ...common,
    mode: "write",
    directory: join(directory, "last"),
    remote: { url, ...remote },
  });
  verify(last, expected, random, "the new writer");
  expect((await last.check({ deep: true })).problems).toEqual([]);
  last.close();
}

async function drills(
  rounds: number,
  place: () => { readonly url: string; readonly options: ObjectStoreOptions },
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const seed = SEED + round;
    const random = new Random(seed);
    const { url, options } = place();
    const durability = round % 2 === 0 ? "full" : "remote";
    const key = random.chance(0.5) ? KEY : null;
    try {
      await drill({ url, remote: options, random, key, durability });
    } catch (error) {
      throw new Error(`seed ${seed}, durability ${durability}, key ${key}: ${String(error)}`, {
        cause: error,
      });
    }
    for (const name of ["follow", "copy", "writer"])
      for (const each of [0, 1])
        rmSync(join(directory, `${name}-${each}`), { recursive: true, force: true });
    rmSync(join(directory, "last"), { recursive: true, force: true });
  }
}

describe("after a disaster everything that was in object storage is there", () => {
  test("of a directory", { timeout: 3_600_000 }, async () => {
    await drills(isLong ? 50 : 1, () => ({
      url: pathToFileURL(mkdtempSync(join(directory, "objects-"))).href,
      options: {},
    }));
  });

  test.skipIf(server === null)("of S3", { timeout: 3_600_000 }, async () => {
    await drills(isLong ? 100 : 1, () => server!.newPlace());
  });
});
