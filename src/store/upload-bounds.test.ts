/** What waits for object storage is bounded, however long that is away. */
import { describe, expect, test } from "vitest";
import { SimulatedBucket } from "../testing/simulated-object-store.ts";
import { SimulatedRemoteClient } from "../testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore, type Store } from "./store.ts";
import type { StoreOptions } from "./store-options.ts";

const URL = "s3://simulated/store";
const NEVER_MS = 1_000_000_000;

class Machine {
  readonly bucket = new SimulatedBucket();
  readonly disk = new SimulatedStorage({ seed: 1 });
  client: SimulatedRemoteClient = new SimulatedRemoteClient(this.bucket);
  nowMs = 1_000_000;

  open(options: StoreOptions = {}): Store {
    return openStore("", {
      backend: "memory",
      logSegmentBytes: 32 * 1024,
      storage: this.disk,
      now: () => (this.nowMs += 10),
      remote: {
        url: URL,
        flushIntervalMs: NEVER_MS,
        connect: () => (this.client = new SimulatedRemoteClient(this.bucket)),
      },
      ...options,
    });
  }

  uploadFiles(): string[] {
    return this.disk.listSync("upload");
  }
}

function write(store: Store, from: number, to: number): void {
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE IF NOT EXISTS item(id INTEGER PRIMARY KEY, note TEXT)");
  for (let id = from; id <= to; id++) {
    connection.prepare("INSERT INTO item VALUES (?, ?)").run(id, `note ${id}`.repeat(20));
    if (id % 2 === 0) store.checkpoint();
  }
}

describe("while object storage is away", () => {
  test("commits go on, the log is trimmed, and the batches of the catalog stay few", async () => {
    const machine = new Machine();
    const store = machine.open();
    store.createDatabase("shop");
    write(store, 1, 10);
    await store.upload();
    machine.client.isDown = true;
    for (let round = 0; round < 4; round++) {
      write(store, 11 + round * 200, 210 + round * 200);
      await expect(store.upload()).rejects.toMatchObject({ code: "REMOTE_UNAVAILABLE" });
      expect(machine.uploadFiles().length).toBeLessThan(270);
    }
    expect(machine.disk.listSync("log").length).toBeLessThan(6);
    expect(store.uploadStatus).toMatchObject({ state: "failing" });
    machine.client.isDown = false;
    const { runs } = store.uploadStatus!.statistics;
    await store.upload();
    // The merged batches were enough: no new base.
    expect(store.uploadStatus!.statistics.runs).toBe(runs + 1);
    const { runs: stored } = JSON.parse(
      Buffer.from(machine.bucket.body("manifest.json")).toString().split("\n")[0]!,
    ) as { runs: { isBase: boolean }[] };
    expect(stored.map(({ isBase }) => isBase)).toEqual([true, false]);
    store.close();
  });

  test("attempts that fail after a run was made leave one run behind, not many", async () => {
    const machine = new Machine();
    const store = machine.open();
    store.createDatabase("shop");
    write(store, 1, 20);
    machine.client.onCall = ({ op, keys }) => {
      if (op === "put" && keys[0]!.startsWith("catalog/")) throw new Error("no space there");
    };
    for (let attempt = 0; attempt < 10; attempt++) await store.upload().catch(() => {});
    const runs = machine.uploadFiles().filter((name) => /^[0-9a-f]+\.run$/.test(name));
    expect(runs.length).toBe(1);
    machine.client.onCall = () => {};
    store.close();
  });

  test("a store opened again after its log was trimmed uploads without a gap", async () => {
    const machine = new Machine();
    let store = machine.open();
    store.createDatabase("shop");
    write(store, 1, 10);
    await store.upload();
    machine.client.isDown = true;
    write(store, 11, 300);
    store.engine.uploads!.close(); // As if the process had ended.
    store.close();
    store = machine.open();
    write(store, 301, 302);
    // What is acknowledged is there for others already after the log alone.
    const lsn = store.uploadStatus!.durableLsn;
    store.engine.uploads!.waitSync(lsn);
    const manifest = Buffer.from(machine.bucket.body("manifest.json")).toString();
    const { checkpointLsn } = JSON.parse(manifest.split("\n")[0]!) as { checkpointLsn: number };
    expect(checkpointLsn).toBeGreaterThan(250);
    expect(store.uploadStatus!.uploadedLsn).toBe(lsn);
    store.close();
  });
});

describe("what fails and is tried again", () => {
  test("a slice waits for packs that an earlier attempt could not store", async () => {
    const machine = new Machine();
    const store = machine.open({ transactionBytesMax: 16 * 1024 });
    store.createDatabase("shop");
    await store.upload();
    write(store, 1, 1);
    using connection = store.connect("shop");
    connection.exec(
      `WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
       INSERT INTO item SELECT i, hex(randomblob(40)) FROM n`,
    );
    const puts: string[] = [];
    let isFailing = true;
    machine.client.onCall = ({ op, keys }) => {
      if (op !== "put") return;
      if (isFailing && keys[0]!.startsWith("chunks/")) throw new Error("no space there");
      puts.push(keys[0]!);
    };
    for (let attempt = 0; attempt < 3; attempt++)
      await expect(store.upload()).rejects.toThrow("no space there");
    expect(puts.filter((key) => key.startsWith("log/"))).toEqual([]);
    isFailing = false;
    await store.upload();
    const firstPack = puts.findIndex((key) => key.startsWith("chunks/"));
    const firstSlice = puts.findIndex((key) => key.startsWith("log/"));
    expect(firstPack).toBeGreaterThanOrEqual(0);
    expect(firstSlice).toBeGreaterThan(firstPack);
    store.close();
  });

  test("a pack number that went up is not given again after garbage collection and reopening", async () => {
    const machine = new Machine();
    let store = machine.open({ gc: "off" });
    store.createDatabase("shop");
    write(store, 1, 20);
    await store.upload();
    store.createDatabase("big");
    store.database("shop").delete();
    machine.nowMs += 100 * 86_400_000;
    store.gc();
    store.close();
    const before = machine.bucket.keys("chunks/");
    const digests = new Map(before.map((key) => [key, Buffer.from(machine.bucket.body(key))]));
    store = machine.open({ gc: "off" });
    const name = store.databases()[0]!.name;
    using connection = store.connect(name);
    connection.exec("CREATE TABLE other(id INTEGER PRIMARY KEY, note TEXT)");
    for (let id = 0; id < 50; id++)
      connection.prepare("INSERT INTO other VALUES (?, ?)").run(id, `other ${id}`);
    store.checkpoint();
    await store.upload();
    expect(machine.bucket.keys("chunks/").length).toBeGreaterThan(before.length);
    for (const [key, bytes] of digests)
      expect(Buffer.compare(Buffer.from(machine.bucket.body(key)), bytes), key).toBe(0);
    connection.close();
    store.close();
  });
});
