/** Followers of a store in object storage: what they show, for how long, and what they cost. */
import { readdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SimulatedBucket } from "../testing/simulated-object-store.ts";
import { SimulatedRemoteClient } from "../testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore, type Store } from "./store.ts";

const URL = "s3://simulated/store";
const NEVER_MS = 1_000_000_000;
const GRACE_MS = 3_600_000;

let nowMs = 0;
let bucket: SimulatedBucket;
let directory = "";
let writer: Store;
let client: SimulatedRemoteClient;

beforeEach(() => {
  nowMs = 1_000_000;
  bucket = new SimulatedBucket();
  bucket.now = () => nowMs;
  directory = mkdtempSync(join(tmpdir(), "bough-follower-"));
  writer = openStore("", {
    backend: "memory",
    storage: new SimulatedStorage({ seed: 1 }),
    now: () => (nowMs += 10),
    logSegmentBytes: 32 * 1024,
    gc: "off",
    remote: {
      url: URL,
      flushIntervalMs: NEVER_MS,
      graceMs: GRACE_MS,
      connect: () => new SimulatedRemoteClient(bucket),
    },
  });
  const shop = writer.createDatabase("shop");
  using connection = writer.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, note TEXT)");
  shop.createBranch("dev");
});

afterEach(() => {
  writer.close();
  rmSync(directory, { recursive: true, force: true });
});

function follow(name: string = "a"): Store {
  return openStore(URL, {
    directory: join(directory, name),
    now: () => nowMs,
    pollIntervalMs: NEVER_MS,
    remote: { url: URL, connect: () => (client = new SimulatedRemoteClient(bucket)) },
  });
}

function add(branch: string, count: number): void {
  using connection = writer.connect(`shop/${branch}`);
  connection.transaction(() => {
    for (let index = 0; index < count; index++)
      connection.prepare("INSERT INTO item(note) VALUES (?)").run("note".repeat(20));
  })();
}

function countOf(store: Store, revision: string): unknown {
  using connection = store.connect(revision);
  return connection.prepare("SELECT count(*) FROM item").pluck().get();
}

/** All that can happen to what a follower reads. */
async function churn(): Promise<void> {
  add("main", 50);
  writer.checkpoint();
  await writer.upload();
  writer.database("shop").branch("dev").reset({ to: "shop/main" });
  add("dev", 5);
  writer.checkpoint();
  writer.gc();
  await writer.upload();
  await writer.collectRemote();
}

describe("a follower", () => {
  test("goes on reading one version in transactions, iterators and on fixed versions, over manifests and collections", async () => {
    add("main", 300);
    writer.checkpoint();
    await writer.upload();
    const store = follow();
    const version = store.database("shop").branch("main").head.version;
    using pinned = store.connect(`shop@${version}`);
    using reader = store.connect("shop");
    using scanning = store.connect("shop");
    reader.exec("BEGIN");
    const count = reader.prepare("SELECT count(*) FROM item").pluck();
    expect(count.get()).toBe(300);
    const iterator = scanning.prepare("SELECT id FROM item ORDER BY id").pluck().iterate();
    expect(iterator.next().value).toBe(1);
    await store.refresh();
    for (let round = 0; round < 5; round++) {
      await churn();
      // Other readers would be gone by now; this one says that it lives.
      nowMs += 5 * 60_000;
      await store.refresh();
      nowMs += 5 * 60_000;
      await writer.collectRemote();
      expect(count.get()).toBe(300);
      expect(pinned.prepare("SELECT count(*), max(length(note)) FROM item").raw().get()).toEqual([
        300, 80,
      ]);
      expect(countOf(store, "shop")).toBe(300 + 50 * (round + 1));
    }
    let last = 1;
    for (const id of iterator) expect(id).toBe(++last);
    expect(last).toBe(300);
    reader.exec("COMMIT");
    expect(count.get()).toBe(550);
    expect(reader.pragma("integrity_check", { simple: true })).toBe("ok");
    pinned.close();
    reader.close();
    scanning.close();
    store.close();
  });

  test("serves on while object storage is away, says so, and comes back", async () => {
    add("main", 10);
    await writer.upload();
    const store = follow();
    expect(countOf(store, "shop")).toBe(10);
    client.isDown = true;
    add("main", 5);
    await writer.upload();
    nowMs += 60_000;
    await expect(store.refresh()).rejects.toMatchObject({ code: "REMOTE_UNAVAILABLE" });
    expect(countOf(store, "shop")).toBe(10);
    expect(store.followerStatus!.lastError).toContain("the service is down");
    expect(store.followerStatus!.lagMs).toBeGreaterThanOrEqual(60_000);
    client.isDown = false;
    await store.refresh();
    expect(countOf(store, "shop")).toBe(15);
    expect(store.followerStatus).toMatchObject({ lastError: null, lagMs: 0 });
    store.close();
  });

  test("costs two requests to look for changes when there are none, and few to open again warm", async () => {
    add("main", 2000);
    writer.checkpoint();
    await writer.upload();
    let store = follow();
    expect(countOf(store, "shop")).toBe(2000);
    await store.refresh(); // Its reader's object goes up.
    client.calls.length = 0;
    await store.refresh();
    expect(client.calls).toEqual([
      { op: "get", keys: ["manifest.json"] },
      { op: "get", keys: [expect.stringMatching(/^log\//) as string] },
    ]);
    store.close();
    store = follow();
    expect(countOf(store, "shop")).toBe(2000);
    const fetched = client.calls.filter(
      ({ op, keys }) => op === "get" && !/^(?:manifest|log\/)/.test(keys[0]!),
    );
    expect(fetched).toEqual([]);
    expect(client.calls.length).toBeLessThanOrEqual(8);
    store.close();
  });

  test("keeps no file open of what it does not show any more", async () => {
    add("main", 100);
    await writer.upload();
    const store = follow();
    const openFiles = (): number => readdirSync("/proc/self/fd").length;
    await churn();
    await store.refresh();
    expect(countOf(store, "shop")).toBe(150);
    const before = openFiles();
    for (let round = 0; round < 6; round++) {
      await churn();
      await store.refresh();
      expect(countOf(store, "shop")).toBe(200 + 50 * round);
    }
    expect(openFiles()).toBeLessThanOrEqual(before + 2);
    store.close();
  });
});

describe("remote garbage collection", () => {
  test("after the time of grace there is what is needed, and nothing else", async () => {
    for (let round = 0; round < 6; round++) await churn();
    const store = follow();
    await store.refresh();
    nowMs += GRACE_MS;
    // The reader renews its object: its manifest's objects stay.
    await store.refresh();
    await churn();
    nowMs += GRACE_MS;
    await store.refresh();
    expect(countOf(store, "shop")).toBe(350);
    store.close();
    // One that vanished keeps nothing for ever.
    for (let round = 0; round < 3; round++) {
      nowMs += GRACE_MS;
      await writer.collectRemote();
    }
    const manifest = JSON.parse(
      Buffer.from(bucket.body("manifest.json")).toString().split("\n")[0]!,
    ) as { runs: { key: string }[]; logStart: number; garbage: unknown[] };
    expect(manifest.garbage).toEqual([]);
    expect(bucket.keys("catalog/")).toEqual(manifest.runs.map(({ key }) => key).sort());
    for (const key of bucket.keys("log/"))
      expect(Number(/\d+/.exec(key)![0])).toBeGreaterThanOrEqual(manifest.logStart);
    expect(bucket.keys("readers/")).toEqual(["readers/clock"]);
    const fresh = follow("b");
    expect(countOf(fresh, "shop")).toBe(350);
    expect((await fresh.check({ deep: true })).problems).toEqual([]);
    fresh.close();
  });

  test("a crash between the deletion and the manifest leaves a store that others open and the next collection cleans", async () => {
    for (let round = 0; round < 4; round++) await churn();
    nowMs += GRACE_MS;
    const uploads = writer.engine.uploads!;
    const before = bucket.keys().length;
    // The next manifest does not arrive.
    const arrived = bucket.store.bind(bucket);
    bucket.store = (key, body) => {
      if (key === "manifest.json") throw new Error("the process ends here");
      return arrived(key, body);
    };
    await expect(writer.collectRemote()).rejects.toThrow("the process ends here");
    bucket.store = arrived;
    expect(bucket.keys().length).toBeLessThan(before);
    const store = follow();
    expect((await store.check({ deep: true })).problems).toEqual([]);
    store.close();
    const report = uploads.collectSync();
    expect(report.waitingObjects).toBe(0);
  });

  test("a clock that is ahead of the service's deletes nothing under a reader", async () => {
    add("main", 300);
    writer.checkpoint();
    await writer.upload();
    const store = follow();
    await store.refresh();
    const number = store.followerStatus!.manifestNumber;
    const service = nowMs;
    bucket.now = () => service; // Far behind from now on.
    await churn();
    nowMs += 2 * GRACE_MS;
    await writer.collectRemote();
    expect(store.followerStatus!.manifestNumber).toBe(number);
    expect(countOf(store, "shop")).toBe(300);
    expect((await store.check({ deep: true })).problems).toEqual([]);
    store.close();
  });
});
