/** What remote-model.test.ts tries at length in memory, once on a real directory and a real S3 server. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { RemoteClient } from "../src/remote/remote-client.ts";
import type { ObjectStoreOptions } from "../src/remote/open-object-store.ts";
import { Random } from "../src/testing/random.ts";
import { s3Server } from "../src/testing/s3-server.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { Machines } from "./remote-machines.ts";
import type { StoreModel } from "./store-model.ts";
import { SMALL_STORE, Workload } from "./store-workload.ts";

const server = await s3Server();
const NEVER_MS = 1_000_000_000;
const KEY = "cd".repeat(32);

async function scenario(
  place: { readonly url: string; readonly options: ObjectStoreOptions },
  seed: number,
  key: string | null,
): Promise<void> {
  const random = new Random(seed);
  let nowMs = 1_000_000;
  const connect = (): RemoteClient => RemoteClient.open(place.url, place.options);
  const options = { connect, flushIntervalMs: NEVER_MS, graceMs: 600_000 };
  const keys = new Set([key]);
  using machines = new Machines({
    place: { url: place.url, connect, options: () => options },
    random,
    now: () => (nowMs += 10),
    keys: () => [...keys],
  });
  let disk = new SimulatedStorage({ seed });
  const writer = new Workload({
    random,
    key,
    open: (current) => ({
      ...SMALL_STORE,
      now: machines.now,
      storage: disk,
      remote: { url: place.url, ...options },
      ...(current === null ? {} : { key: current }),
    }),
  });
  const history: StoreModel[] = [writer.acknowledged];
  writer.onDone = (models) => history.push(...models);
  const step = (count: number): void => {
    for (let index = 0; index < count; index++) writer.step();
    for (const each of writer.keys) keys.add(each);
  };
  writer.start();
  writer.mayReopen = false;
  step(25);
  await writer.store.upload();
  const follower = machines.follow();
  machines.verify(follower, history, history.length - 1);
  step(25);
  disk = disk.copyAfterCrash(random);
  writer.recover(() => {});
  step(5);
  await writer.store.upload();
  writer.store.gc();
  await writer.store.collectRemote();
  const acknowledged = history.length - 1;
  step(5);
  try {
    await follower.refresh();
    machines.verify(follower, history, acknowledged);
  } catch (error) {
    expect(error).toMatchObject({ code: "KEY_WRONG" });
  }
  follower.close();
  const copy = await machines.restore();
  machines.verify(copy, history, acknowledged);
  copy.close();
  const taken = machines.takeOver();
  const index = machines.verify(taken, history, acknowledged);
  step(3);
  writer.store.createDatabase("late");
  await expect(writer.store.upload()).rejects.toMatchObject({
    code: "FENCED",
    message: expect.stringContaining(`process ${process.pid} on`) as string,
  });
  writer.store.close();
  taken.createDatabase("new");
  await taken.upload();
  const fresh = machines.follow();
  expect(fresh.databases().map(({ name }) => name)).toContain("new");
  expect(fresh.databases().map(({ name }) => name)).not.toContain("late");
  fresh.close();
  expect((await taken.check({ deep: true })).problems).toEqual([]);
  expect(index).toBeGreaterThanOrEqual(acknowledged);
  taken.close();
}

describe("upload, follow, restore, take over", () => {
  for (const [name, key] of [
    ["plain", null],
    ["encrypted", KEY],
  ] as const) {
    test(`${name}, in a directory`, { timeout: 600_000 }, async () => {
      const directory = mkdtempSync(join(tmpdir(), "bough-objects-"));
      await scenario({ url: pathToFileURL(directory).href, options: {} }, 5, key);
      rmSync(directory, { recursive: true, force: true });
    });

    test.skipIf(server === null)(`${name}, in S3`, { timeout: 600_000 }, async () => {
      await scenario(server!.newPlace(), 6, key);
    });
  }
});
