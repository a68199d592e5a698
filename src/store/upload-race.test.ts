/** What garbage collection takes away while an upload is under way: each manifest has all that it needs. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SimulatedBucket } from "../testing/simulated-object-store.ts";
import { SimulatedRemoteClient } from "../testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { restoreStore } from "./restore-store.ts";
import { openStore, type Store } from "./store.ts";

const URL = "s3://simulated/store";
const NEVER_MS = 1_000_000_000;

let nowMs = 0;
let bucket: SimulatedBucket;
let client: SimulatedRemoteClient;
let disk: SimulatedStorage;
let store: Store;
let directory = "";

beforeEach(() => {
  nowMs = 1_000_000;
  bucket = new SimulatedBucket();
  client = new SimulatedRemoteClient(bucket);
  disk = new SimulatedStorage({ seed: 1 });
  directory = mkdtempSync(join(tmpdir(), "bough-upload-race-"));
  store = openStore("", {
    backend: "memory",
    storage: disk,
    now: () => (nowMs += 10),
    gc: "off",
    remote: { url: URL, flushIntervalMs: NEVER_MS, graceMs: 0, connect: () => client },
  });
  store.createDatabase("shop").setRetention({ everyCommitMs: 0, hourlyMs: 0, dailyMs: 0 });
});

afterEach(() => {
  client.onCall = () => {};
  store.close();
  rmSync(directory, { recursive: true });
});

/** Leaves a pack of which most is garbage: the next collection moves what is alive, and deletes it. */
function leaveSparsePack(rows: number): void {
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, note BLOB)");
  const insert = connection.prepare("INSERT INTO item VALUES (?, randomblob(20000))");
  connection.transaction(() => {
    for (let id = 1; id <= rows; id++) insert.run(id);
  })();
  store.checkpoint();
  connection.exec("UPDATE item SET note = randomblob(1000) WHERE id > 5; VACUUM");
  store.checkpoint();
  store.expire();
}

async function problemsOfCopy(): Promise<readonly unknown[]> {
  const { check } = await restoreStore(URL, join(directory, "copy"), {
    remote: { connect: () => new SimulatedRemoteClient(bucket) },
  });
  return check!.problems;
}

describe("garbage collection during an upload", () => {
  test("a pack that goes while the run that names it is made: no manifest is without it", async () => {
    await store.upload();
    leaveSparsePack(400);
    const before = new Set(disk.listSync("upload"));
    // The process ends as soon as the next manifest is stored.
    let isStored = false;
    client.onCall = ({ op, keys }) => {
      if (isStored) throw new Error("the process has ended");
      isStored = op === "put" && keys[0] === "manifest.json";
    };
    const upload = store.upload().catch(() => {});
    while (
      !disk.listSync("upload").some((name) => /^[0-9a-f]+\.run$/.test(name) && !before.has(name))
    )
      await nextTurn();
    expect(store.gc().packs.count).toBe(1);
    await upload;
    expect(isStored).toBe(true);
    expect(await problemsOfCopy()).toEqual([]);
  });

  test("a pack that goes while garbage is looked for there is not listed by the manifest that names it", async () => {
    leaveSparsePack(60);
    await store.upload();
    let collected = 0;
    client.onCall = ({ op }) => {
      if (op === "list" && collected === 0) collected = store.gc().packs.count;
    };
    await store.collectRemote();
    expect(collected).toBe(1);
    expect(await problemsOfCopy()).toEqual([]);
  });
});
