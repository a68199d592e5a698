/** Uploads and collections of remote garbage that are ended by a signal, between any two of their requests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SimulatedBucket } from "../testing/simulated-object-store.ts";
import { SimulatedRemoteClient } from "../testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { restoreStore } from "./restore-store.ts";
import { openStore, type Store } from "./store.ts";
import type { UploadOptions } from "./upload-service.ts";

const URL = "s3://simulated/store";
const NEVER_MS = 1_000_000_000;
const REASON = new Error("enough");

let bucket: SimulatedBucket;
let client: SimulatedRemoteClient;
let store: Store;
let directory: string;
let nowMs: number;

beforeEach(() => {
  nowMs = 1_000_000;
  bucket = new SimulatedBucket();
  client = new SimulatedRemoteClient(bucket);
  directory = mkdtempSync(join(tmpdir(), "bough-upload-cancel-"));
  store = openStore("", {
    backend: "memory",
    storage: new SimulatedStorage({ seed: 1 }),
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

/** Leaves garbage in object storage, too. */
function change(): void {
  using connection = store.connect("shop");
  connection.exec("DROP TABLE IF EXISTS item; CREATE TABLE item AS SELECT randomblob(20000) AS a");
  store.checkpoint();
  store.expire();
  store.gc();
}

/** Runs it until it makes its n-th request, for each n, until it needs no more; how often it was ended. */
async function endEverywhere(run: (options: UploadOptions) => Promise<unknown>): Promise<number> {
  for (let last = 1; ; last++) {
    change();
    const controller = new AbortController();
    let count = 0;
    client.onCall = () => {
      if (++count === last) controller.abort(REASON);
    };
    const outcome = await run({ signal: controller.signal }).then(
      () => "done",
      (error: unknown) => error,
    );
    client.onCall = () => {};
    if (count < last) {
      expect(outcome).toBe("done");
      return last - 1;
    }
    // The answer of its last request may have been all that it waited for.
    expect([REASON, "done"]).toContain(outcome);
    expect(store.uploadStatus?.lastError).toBeNull();
    const before = client.requestCount;
    await expect(run({ signal: controller.signal })).rejects.toBe(REASON);
    expect(client.requestCount).toBe(before);
  }
}

async function problemsOfCopy(name: string): Promise<readonly unknown[]> {
  const { check } = await restoreStore(URL, join(directory, name), {
    remote: { connect: () => new SimulatedRemoteClient(bucket) },
  });
  return check!.problems;
}

test("an upload that is ended leaves what is there right, and the next one goes on", async () => {
  expect(await endEverywhere((options) => store.upload(options))).toBeGreaterThan(3);
  await store.upload();
  expect(await problemsOfCopy("copy")).toEqual([]);
});

test("a collection that is ended leaves what is there right, and the next one goes on", async () => {
  expect(await endEverywhere((options) => store.collectRemote(options))).toBeGreaterThan(5);
  for (let count = 0; count < 2; count++) {
    await store.collectRemote();
    nowMs += NEVER_MS; // Slices are kept for a while.
  }
  expect(await problemsOfCopy("copy")).toEqual([]);
  await store.collectRemote();
  const { waitingObjects, deletedObjects } = await store.collectRemote();
  expect([waitingObjects, deletedObjects]).toEqual([0, 0]);
});

test("one that waits for another is ended while that goes on", async () => {
  change();
  const first = store.upload();
  const controller = new AbortController();
  const second = store.upload({ signal: controller.signal });
  controller.abort(REASON);
  await expect(second).rejects.toBe(REASON);
  await first;
  expect(await problemsOfCopy("copy")).toEqual([]);
});
