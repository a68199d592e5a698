/** What reads much of a store, where most of it is in object storage only: followers, and stores that were taken over. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Database } from "../better-sqlite3.ts";
import { StoreError } from "../errors.ts";
import { Findings } from "../integrity/report.ts";
import { checkStore } from "./check-store.ts";
import { convertStore } from "./convert-store.ts";
import { remoteStatus } from "./remote-status.ts";
import { repairStore } from "./repair-store.ts";
import { restoreStore } from "./restore-store.ts";
import { openStore, type Store } from "./store.ts";

let directory: string;
let url: string;
let stores: Store[] = [];
let opened = 0;

/** Pages that the cache does not hold between two reads. */
const SMALL = { cacheBytesMax: 0, diskCacheBytesMax: 0, pollIntervalMs: 1e6 };

const file = (name: string): string => join(directory, name);

function keep(store: Store): Store {
  stores.push(store);
  return store;
}

function run(store: Store, revision: string, sql: string): void {
  const connection = store.connect(revision);
  connection.exec(sql);
  connection.close();
}

function sum(store: Store, revision: string): unknown {
  const connection = store.connect(revision);
  try {
    return connection.prepare("SELECT count(*), sum(length(name)) FROM item").raw().get();
  } finally {
    connection.close();
  }
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "bough-remote-reading-"));
  url = `file://${file("objects")}`;
  const store = openStore(file("writer"), { remote: url, chunkPages: 8 });
  store.createDatabase("shop", { pageSize: 512 });
  run(store, "shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(
    store,
    "shop",
    `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<2000)
     INSERT INTO item SELECT i, 'item ' || i || ' of a long list of items' FROM n`,
  );
  store.checkpoint();
  for (let id = 1; id < 9; id++)
    run(store, "shop", `UPDATE item SET name = name || '!' WHERE id % 97 = ${id}`);
  store.database("shop").createTag("early", { at: "shop@4" });
  store.checkpoint();
  store.database("shop").createBranch("dev", { from: "shop@5" });
  run(store, "shop/dev", "DELETE FROM item WHERE id % 3 = 0");
  store.close();
  expect(store.uploadFailure).toBeNull();
});

afterEach(() => {
  for (const store of stores) store.close();
  stores = [];
  rmSync(directory, { recursive: true, force: true });
});

/** With a directory, and so a cache, of its own. */
function follower(options: object = {}): Store {
  return keep(openStore(url, { ...SMALL, directory: file(`f${opened++}`), ...options }));
}

function taken(options: object = {}): Store {
  const where = { directory: file(`w${opened++}`), mode: "write", gc: "off" } as const;
  return keep(openStore(url, { ...SMALL, ...where, ...options }));
}

const kinds = [
  ["a follower", follower],
  ["a store that was taken over", taken],
] as const;

describe.each(kinds)("%s", (_, open) => {
  test("is checked, deeply too", async () => {
    expect(await open().check()).toMatchObject({ ok: true, problems: [] });
    const report = await open().check({ deep: true });
    expect(report).toMatchObject({ ok: true, problems: [] });
    expect(report.counts.chunks).toBeGreaterThan(10);
    expect(report.counts.historyEntries).toBeGreaterThan(10);
    expect(report.counts.heads).toBe(3);
  });

  test("is scrubbed", async () => {
    const report = await open().scrub({ bytesPerSecond: Infinity });
    expect(report).toMatchObject({ ok: true, stoppedAt: null });
    expect(report.counts.historySegments).toBeGreaterThan(0);
  });

  test("tells of damage in object storage", async () => {
    const chunks = file("objects/chunks");
    const [pack = ""] = readdirSync(chunks);
    writeFileSync(`${chunks}/${pack}`, "damaged");
    const store = open();
    const { ok, problems } = await store.check();
    expect(ok).toBe(false);
    expect(problems.flatMap(({ revisions }) => revisions)).toContain("shop/dev");
    expect((await store.scrub({ bytesPerSecond: Infinity })).ok).toBe(false);
  });

  test("is exported, backed up and counted, at every version", async () => {
    const store = open();
    for (const revision of ["shop", "shop/dev", "shop@early", "shop@6"]) {
      const path = file(`${revision.replace("/", "-")}.db`);
      await open().exportFile(revision, path);
      using exported = new Database(readFileSync(path));
      const query = "SELECT count(*), sum(length(name)) FROM item";
      expect(exported.prepare(query).raw().get(), revision).toEqual(sum(store, revision));
    }
    const connection = open().connect("shop");
    await connection.backup(file("backup.db"));
    connection.close();
    const { databases, disk } = open().stat();
    expect(databases[0]?.branches.map(({ name }) => name)).toEqual(["main", "dev"]);
    expect(disk.chunkBytes).toBeGreaterThan(10_000);
    expect([...open().database("shop").branch("main").log()].length).toBeGreaterThan(8);
  });
});

describe("a follower", () => {
  test("shows the same during a check, whatever the writer uploads, and the newest after it", async () => {
    const store = follower();
    const before = sum(store, "shop");
    const writer = openStore(file("writer"));
    let isChanged = false;
    const changes: Promise<void>[] = [];
    const report = await store.check({
      deep: true,
      onProgress: () => {
        if (isChanged) return;
        isChanged = true;
        run(writer, "shop", "DELETE FROM item WHERE id % 2 = 0");
        writer.checkpoint();
        changes.push(writer.upload().then(() => store.refresh()));
      },
    });
    await Promise.all(changes);
    expect(report).toMatchObject({ ok: true, problems: [] });
    await store.refresh();
    expect(sum(store, "shop")).not.toEqual(before);
    expect(sum(store, "shop")).toEqual(sum(writer, "shop"));
    writer.close();
    expect(await store.check({ deep: true })).toMatchObject({ ok: true });
  });

  test("without a directory of its own gets one among the user's caches, beside others that are open", () => {
    vi.stubEnv("XDG_CACHE_HOME", file("home"));
    try {
      const first = openStore(url, SMALL);
      const second = keep(openStore(url, SMALL));
      expect(sum(first, "shop")).toEqual(sum(second, "shop"));
      expect(readdirSync(file("home/bough"))).toHaveLength(2);
      first.close();
      keep(openStore(url, SMALL));
      expect(readdirSync(file("home/bough"))).toHaveLength(2);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test("has nothing to collect, expire or checkpoint", async () => {
    const store = follower();
    for (const write of [
      () => store.gc(),
      () => store.expire(),
      () => store.checkpoint(),
      () => store.compactCatalog(),
    ])
      expect(write).toThrow(expect.objectContaining({ code: "READ_ONLY" }));
    await expect(store.gcAsync()).rejects.toMatchObject({ code: "READ_ONLY" });
    await expect(store.collectRemote()).rejects.toMatchObject({ code: "READ_ONLY" });
  });
});

describe("a store that was taken over", () => {
  test("expires, collects garbage and goes on, with what is there only", async () => {
    const store = taken();
    const before = sum(store, "shop");
    store.database("shop").branch("dev").delete();
    store.database("shop").setRetention({ everyCommitMs: 0, undeleteMs: 0 });
    store.gc();
    await store.gcAsync();
    expect(store.heldSpace().holders.length).toBeGreaterThan(0);
    expect(sum(store, "shop")).toEqual(before);
    expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    await store.upload();
    expect(sum(follower(), "shop")).toEqual(before);
    expect(await follower().check({ deep: true })).toMatchObject({ ok: true, problems: [] });
  });

  test("is checked, repaired and converted when it is closed", async () => {
    const store = taken();
    run(store, "shop", "UPDATE item SET name = 'x' WHERE id < 50");
    const before = sum(store, "shop");
    store.close();
    expect(store.uploadFailure).toBeNull();
    const path = file("w0").replace("w0", `w${opened - 1}`);
    expect(await checkStore(path, { deep: true })).toMatchObject({ ok: true, problems: [] });
    expect(await repairStore(path)).toMatchObject({ steps: [], report: { ok: true } });
    convertStore(path, { backend: "memory" });
    const again = keep(openStore(path));
    expect(sum(again, "shop")).toEqual(before);
    await again.upload();
    expect(sum(follower(), "shop")).toEqual(before);
  });

  test("refuses to let go of where its pages are, and is copied as a whole", async () => {
    const store = taken();
    const path = file(`w${opened - 1}`);
    const before = sum(store, "shop");
    store.close();
    for (const remote of [null, `file://${file("other")}`])
      expect(() => openStore(path, { remote })).toThrow(
        expect.objectContaining({ code: "REMOTE_CONFLICT" }),
      );
    const { check } = await restoreStore(url, file("copy"));
    expect(check).toMatchObject({ ok: true });
    rmSync(file("objects"), { recursive: true });
    expect(sum(keep(openStore(file("copy"))), "shop")).toEqual(before);
  });
});

test("a network that gives no answer is no damage: a check fails", () => {
  const findings = new Findings();
  for (const code of ["REMOTE_UNAVAILABLE", "REMOTE_DENIED", "TIMEOUT"] as const) {
    const error = new StoreError(code, "Cannot read an object: nobody answers");
    expect(() => findings.addDamage({ kind: "pack", number: 1 }, error)).toThrow(error);
  }
  findings.addError(new StoreError("CORRUPT_REMOTE", "Cannot read an object: it is gone"));
  expect(findings.report().problems).toHaveLength(1);
});

describe("the upload of a store", () => {
  test("goes on at the same place after it was ended", async () => {
    const store = openStore(file("writer"), { remote: null });
    run(store, "shop", "DELETE FROM item WHERE id > 1000");
    const after = sum(store, "shop");
    store.close();
    expect(sum(follower(), "shop")).not.toEqual(after);
    expect(await remoteStatus(file("writer"))).toMatchObject({ url: null, state: "none" });
    const again = keep(openStore(file("writer"), { remote: url }));
    await again.upload();
    expect(sum(follower(), "shop")).toEqual(after);
    expect(await remoteStatus(file("writer"))).toMatchObject({ url, state: "current" });
  });

  test("says after the close what has stayed here", async () => {
    const store = openStore(file("writer"));
    run(store, "shop", "DELETE FROM item WHERE id > 1000");
    taken();
    store.close();
    expect(store.uploadFailure).toMatchObject({ code: "FENCED" });
    const status = await remoteStatus(file("writer"));
    expect(status.state).toBe("fenced");
    expect(status.durableLsn).toBeGreaterThan(status.uploadedLsn ?? Infinity);
  });

  test("an endpoint that nobody serves is unreachable, within the time given", async () => {
    rmSync(file("other"), { recursive: true, force: true });
    const nowhere = "s3://bucket/prefix?endpoint=http://127.0.0.1:9";
    const credentials = { accessKeyId: "key", secretAccessKey: "secret" };
    const remote = { url: nowhere, credentials, timeoutMs: 50, flushIntervalMs: 1e6 };
    const store = openStore(file("other"), { remote });
    store.createDatabase("shop");
    store.close();
    expect(store.uploadFailure).toMatchObject({ code: expect.stringMatching(/TIMEOUT|REMOTE/) });
    const status = await remoteStatus(file("other"), { remote, timeoutMs: 100 });
    expect(status).toMatchObject({ url: nowhere, state: "unreachable", durableLsn: 1 });
  });
});
