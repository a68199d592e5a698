/** A writer that was taken over finds out, whatever grace the two were given. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { SimulatedBucket } from "../testing/simulated-object-store.ts";
import { SimulatedRemoteClient } from "../testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore, type Store } from "./store.ts";
import type { StoreOptions } from "./store-options.ts";

const URL = "s3://simulated/store";
const MINUTE_MS = 60_000;

function add(store: Store, value: number): void {
  using connection = store.connect("shop");
  connection.exec(`INSERT INTO t VALUES(${value})`);
}

test("a fence outlives what the other writer takes for granted, also with no grace at all", async () => {
  const bucket = new SimulatedBucket();
  let nowMs = 1_000_000;
  const options = (graceMs: number): StoreOptions => ({
    durability: "remote",
    gc: "off",
    now: () => nowMs,
    remote: {
      url: URL,
      flushIntervalMs: 1_000_000_000,
      graceMs,
      connect: () => new SimulatedRemoteClient(bucket),
    },
  });
  const directory = mkdtempSync(join(tmpdir(), "bough-fence-"));
  const first = openStore("", {
    ...options(60 * MINUTE_MS),
    backend: "memory",
    storage: new SimulatedStorage({ seed: 1 }),
  });
  first.createDatabase("shop");
  {
    using connection = first.connect("shop");
    connection.exec("CREATE TABLE t(x)");
  }
  const second = openStore(URL, { ...options(0), mode: "write", directory });
  const slices = (): string[] => [...bucket.objects.keys()].filter((key) => key.startsWith("log/"));
  const fence = slices().sort().at(-1);
  try {
    // 28 minutes: the first would not look for itself before 30 by its own grace.
    for (let round = 1; round <= 4; round++) {
      add(second, 100 + round);
      second.checkpoint();
      await second.upload();
      await second.collectRemote();
      nowMs += 7 * MINUTE_MS;
    }
    expect(slices()).not.toContain(fence);
    expect(() => add(first, 1)).toThrow(expect.objectContaining({ code: "FENCED" }));
    add(second, 200);
    using connection = second.connect("shop");
    expect(connection.prepare("SELECT x FROM t").pluck().all()).toEqual([101, 102, 103, 104, 200]);
  } finally {
    first.close();
    second.close();
    rmSync(directory, { recursive: true });
  }
});

test("within minutes a fence is there, though nothing else is kept", async () => {
  const bucket = new SimulatedBucket();
  const now = (): number => 1_000_000;
  const connect = (): SimulatedRemoteClient => new SimulatedRemoteClient(bucket);
  const remote = { url: URL, flushIntervalMs: 1_000_000_000, connect };
  const common: StoreOptions = { durability: "remote", gc: "off", now };
  const storage = new SimulatedStorage({ seed: 1 });
  const first = openStore("", { ...common, backend: "memory", storage, remote });
  first.createDatabase("shop");
  {
    using connection = first.connect("shop");
    connection.exec("CREATE TABLE t(x)");
  }
  const directory = mkdtempSync(join(tmpdir(), "bough-fence-"));
  const second = openStore(URL, {
    ...common,
    mode: "write",
    directory,
    remote: { ...remote, graceMs: 0 },
  });
  try {
    for (let round = 1; round <= 3; round++) {
      add(second, 100 + round);
      second.checkpoint();
      await second.upload();
      await second.collectRemote();
    }
    expect(() => add(first, 1)).toThrow(expect.objectContaining({ code: "FENCED" }));
  } finally {
    first.close();
    second.close();
    rmSync(directory, { recursive: true });
  }
});

test("a directory that was taken over takes no commits when it is opened again, and can be read", async () => {
  const bucket = new SimulatedBucket();
  const remote = {
    url: URL,
    flushIntervalMs: 1_000_000_000,
    connect: () => new SimulatedRemoteClient(bucket),
  };
  const storage = new SimulatedStorage({ seed: 3 });
  const options: StoreOptions = { backend: "memory", storage, remote };
  const first = openStore("", options);
  first.createDatabase("shop");
  {
    using connection = first.connect("shop");
    connection.exec("CREATE TABLE t(x)");
  }
  await first.upload();
  const directory = mkdtempSync(join(tmpdir(), "bough-fence-"));
  const second = openStore(URL, { remote, mode: "write", directory });
  try {
    add(first, 1); // Nobody has told it yet.
    const isFenced = expect.objectContaining({ code: "FENCED" });
    await expect(first.upload()).rejects.toThrow(isFenced);
    await first.closeAsync();
    expect(first.uploadFailure).toMatchObject({ code: "FENCED" });
    const again = openStore("", options);
    expect(() => add(again, 2)).toThrow(isFenced);
    {
      using connection = again.connect("shop");
      expect(connection.prepare("SELECT x FROM t").pluck().all()).toEqual([1]);
    }
    again.close();
    const alone = openStore("", { ...options, remote: null });
    add(alone, 3);
    alone.close();
  } finally {
    second.close();
    rmSync(directory, { recursive: true });
  }
});
