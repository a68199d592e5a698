/** A store that is uploaded, after a repair: what is in object storage has what the repaired store has. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { SimulatedBucket } from "../testing/simulated-object-store.ts";
import { SimulatedRemoteClient } from "../testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { CopySource } from "./copy-source.ts";
import { writePackNumbers } from "./pack-numbers.ts";
import { repairStore } from "./repair-store.ts";
import { restoreStore } from "./restore-store.ts";
import { openStore, type Store } from "./store.ts";

const URL = "s3://simulated/store";
const PACK = "chunks/00000001.pack";

let bucket: SimulatedBucket;
let disk: SimulatedStorage;
let directory = "";

function open(): Store {
  const connect = (): SimulatedRemoteClient => new SimulatedRemoteClient(bucket);
  return openStore("", {
    backend: "memory",
    storage: disk,
    gc: "off",
    remote: { url: URL, flushIntervalMs: 1_000_000_000, graceMs: 0, connect },
  });
}

beforeEach(async () => {
  bucket = new SimulatedBucket();
  disk = new SimulatedStorage({ seed: 1 });
  directory = mkdtempSync(join(tmpdir(), "bough-repair-upload-"));
  const store = open();
  store.createDatabase("shop");
  {
    using connection = store.connect("shop");
    connection.exec("CREATE TABLE t(x); INSERT INTO t VALUES(randomblob(100000))");
  }
  store.checkpoint();
  await store.upload();
  store.close();
});

afterEach(() => rmSync(directory, { recursive: true }));

/** Of every chunk in the pack nothing is left here; a copy has them all. */
async function damageAndRepair(): Promise<void> {
  const copy = disk.copyAfterCrash(new Random(1));
  const file = disk.openFileSync(PACK, { mode: "write" });
  file.writeSync(64, new Uint8Array(file.sizeSync() - 64));
  file.syncSync();
  file.closeSync();
  const source = CopySource.open("copy", copy);
  const { before, report } = await repairStore("", { storage: disk, source });
  source.close();
  expect(before.problems.length).toBeGreaterThan(0);
  expect(report.problems).toEqual([]);
}

describe("a repair of a store that is uploaded", () => {
  test("object storage hears of the chunks' new places before the pack that they were in is deleted there", async () => {
    await damageAndRepair();
    const store = open();
    store.gc();
    expect(disk.existsSync(PACK)).toBe(false);
    await store.upload();
    await store.collectRemote();
    await store.collectRemote();
    expect([...bucket.objects.keys()]).not.toContain("chunks/00000001.1.pack");
    store.close();
    const { check } = await restoreStore(URL, join(directory, "copy"), {
      remote: { connect: () => new SimulatedRemoteClient(bucket) },
    });
    expect(check!.problems).toEqual([]);
  });

  test("the new pack has no number that an upload has used", async () => {
    writePackNumbers(disk, 9);
    await damageAndRepair();
    expect(disk.listSync("chunks").sort()).toEqual(["00000001.pack", "00000009.pack"]);
  });
});
