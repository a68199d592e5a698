import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Log, type LogOptions } from "./log.ts";

const STORE_ID = Uint8Array.from({ length: 16 }, (_, index) => index + 1);

let directory = "";
let storage: Storage;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-log-"));
  storage = openNodeStorage(directory);
});

afterEach(() => rmSync(directory, { recursive: true }));

interface Opened {
  readonly log: Log;
  readonly records: [number, number, string][];
}

function open(options: Partial<LogOptions> = {}): Opened {
  const records: [number, number, string][] = [];
  const log = Log.open({
    storage,
    storeId: STORE_ID,
    cipher: null,
    afterLsn: 0,
    onRecord: (lsn, kind, payload) =>
      records.push([lsn, kind, Buffer.from(payload).toString("latin1")]),
    segmentSize: 16384,
    ...options,
  });
  return { log, records };
}

const text = (value: string): Uint8Array => Buffer.from(value, "latin1");

test("records come back in order after a clean close", async () => {
  const { log } = open();
  expect(log.append(7, text("one"))).toBe(1);
  expect(log.append(8, [text("t"), text("wo")])).toBe(2);
  expect(log.append(9, text("xthreex"), 1, 6)).toBe(3);
  log.flushSync("full");
  expect(log.durableLsn).toBe(3);
  await log.close();
  const again = open();
  expect(again.records).toEqual([
    [1, 7, "one"],
    [2, 8, "two"],
    [3, 9, "three"],
  ]);
  expect(again.log.append(1, text("four"))).toBe(4);
  await again.log.flush();
  const third = open({ afterLsn: 2 });
  expect(third.records).toEqual([
    [3, 9, "three"],
    [4, 1, "four"],
  ]);
  again.log.closeSync();
});

test("records fill many segments, and trim gives back those that are not needed", async () => {
  const { log } = open();
  for (let index = 0; index < 100; index++) {
    log.append(1, text(String(index).padEnd(1000, ".")));
    if (index % 3 === 0) await log.flush();
  }
  expect(log.sizeBytes).toBeGreaterThan(100_000);
  log.trim(50);
  expect(log.bytesSince(99)).toBeLessThan(70_000);
  await log.close();
  const again = open({ afterLsn: 50 });
  expect(again.records.map(([lsn]) => lsn)).toEqual(Array.from({ length: 50 }, (_, i) => i + 51));
  expect(() => open()).toThrow(/starts at LSN/);
});

test("callers that flush in one turn share one write, and those that come during it share the next", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk, segmentSize: 1 << 20 });
  log.append(1, text("start"));
  await log.flush();
  disk.clearTrace();
  const order: number[] = [];
  const writer = async (index: number): Promise<void> => {
    for (let round = 0; round < 3; round++) {
      const lsn = log.append(1, text(`writer ${index}, round ${round}`));
      await log.flush();
      expect(log.durableLsn).toBeGreaterThanOrEqual(lsn);
      order.push(round);
    }
  };
  await Promise.all(Array.from({ length: 64 }, (_, index) => writer(index)));
  expect(disk.countOf("write")).toBe(3);
  expect(disk.countOf("sync")).toBe(0);
  expect(order).toEqual([0, 1, 2].flatMap((round) => Array.from({ length: 64 }, () => round)));
  await log.close();
});

test("who waits for a record waits for the write that carries it, and not for what is appended behind it", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk, segmentSize: 1 << 20 });
  log.append(1, text("start"));
  await log.flush();
  disk.clearTrace();
  const lsn = log.append(1, new Uint8Array(10_000));
  const first = log.flush(); // Begins to write at once.
  log.append(1, text("behind"));
  await log.flush(lsn);
  expect(log.durableLsn).toBe(lsn);
  await first;
  await log.flush(lsn);
  expect(disk.countOf("write")).toBe(1);
  await log.close();
});

test("with enough to write the disk begins in the same turn, one write at a time, and all is durable in order", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk, segmentSize: 1 << 20 });
  log.append(1, text("start"));
  await log.flush();
  disk.clearTrace();
  const payload = new Uint8Array(1000);
  const durable: number[] = [];
  const writer = async (): Promise<void> => {
    for (let round = 0; round < 4; round++) {
      const lsn = log.append(1, payload);
      await log.flush();
      expect(log.durableLsn).toBeGreaterThanOrEqual(lsn);
      durable.push(lsn);
    }
  };
  await Promise.all(Array.from({ length: 64 }, () => writer()));
  // One per round would mean that each write waits until all have appended.
  expect(disk.countOf("write")).toBeGreaterThan(4);
  expect(disk.countOf("write")).toBeLessThan(64);
  expect(durable.length).toBe(4 * 64);
  expect(log.durableLsn).toBe(log.lastLsn);
  await log.close();
});

test("one synchronous flush is one durable write, and a flush with nothing new is none", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  log.append(1, text("start"));
  log.flushSync("full");
  disk.clearTrace();
  log.append(1, text("one"));
  log.append(1, text("two"));
  log.flushSync("full");
  log.flushSync("full");
  log.flushSync("normal");
  await log.flush();
  expect(disk.trace.map(({ kind }) => kind)).toEqual(["write"]);
});

test("durability normal leaves the sync to a later full flush, off leaves the write too", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  log.append(1, text("start"));
  log.flushSync("full");
  disk.clearTrace();
  log.append(1, text("off"));
  log.flushSync("off");
  expect(disk.trace).toEqual([]);
  log.flushSync("normal");
  expect(disk.countOf("write")).toBe(1);
  expect([log.durableLsn, log.lastLsn]).toEqual([1, 2]);
  log.flushSync("full");
  expect([disk.countOf("write"), disk.countOf("sync"), log.durableLsn]).toEqual([1, 1, 2]);
  log.append(1, text("again"));
  log.flushSync("normal");
  await log.flush();
  expect([disk.countOf("write"), disk.countOf("sync"), log.durableLsn]).toEqual([2, 2, 3]);
});

test("pending records past the limit are written out by append", () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk, segmentSize: 1 << 20, pendingBytesMax: 10_000 });
  log.append(1, new Uint8Array(100));
  log.flushSync("full");
  disk.clearTrace();
  for (let index = 0; index < 50; index++) log.append(1, new Uint8Array(960));
  expect(disk.countOf("write")).toBe(5);
  expect([log.durableLsn, log.lastLsn]).toEqual([1, 51]);
});

test("a failed durable write fails the log: the call gets the error, later ones STORE_FAILED", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  log.append(1, text("kept"));
  log.flushSync("full");
  log.append(1, text("lost"));
  disk.failAt({ kinds: ["write"], count: 1, systemCode: "ENOSPC" });
  expect(() => log.flushSync("full")).toThrow(expect.objectContaining({ code: "DISK_FULL" }));
  const failed = expect.objectContaining({
    code: "STORE_FAILED",
    cause: expect.objectContaining({ code: "DISK_FULL" }),
  });
  disk.clearTrace();
  expect(() => log.append(1, text("later"))).toThrow(failed);
  expect(() => log.flushSync("full")).toThrow(failed);
  expect(() => log.trim(1)).toThrow(failed);
  expect(() => log.rotate()).toThrow(failed);
  await expect(log.flush()).rejects.toEqual(failed);
  expect(log.durableLsn).toBe(1);
  await expect(log.close()).rejects.toEqual(failed);
  await log.close();
  expect(disk.countOf("write", "sync", "rename", "delete")).toBe(0);
  expect(open({ storage: disk }).records[0]).toEqual([1, 1, "kept"]);
});

test("a failed asynchronous sync rejects every waiter, is not retried, and leaves nothing unhandled", async () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  log.append(1, text("kept"));
  log.flushSync("full");
  log.append(1, text("written"));
  log.flushSync("normal");
  const syncs = disk.countOf("sync");
  disk.failAt({ kinds: ["sync"], count: 1, systemCode: "EIO", dropUnsynced: true });
  log.append(1, text("one"));
  const waiting = [log.flush(), log.flush()];
  const results = await Promise.allSettled(waiting);
  expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  await expect(log.flush()).rejects.toHaveProperty("code", "STORE_FAILED");
  expect(log.durableLsn).toBe(1);
  expect(disk.countOf("sync")).toBe(syncs + 1);
  expect(() => log.closeSync()).toThrow(expect.objectContaining({ code: "STORE_FAILED" }));
  expect(disk.countOf("sync")).toBe(syncs + 1);
  disk.reboot();
  expect(open({ storage: disk }).records[0]).toEqual([1, 1, "kept"]);
});

test("a disk too full for a new segment refuses the record, and takes it when there is space again", () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  disk.failAt({ kinds: ["write"], count: 1, systemCode: "ENOSPC" });
  expect(() => log.append(1, text("one"))).toThrow(expect.objectContaining({ code: "DISK_FULL" }));
  expect(log.lastLsn).toBe(0);
  expect(disk.listSync("log")).toEqual([]);
  expect(log.append(1, text("one"))).toBe(1);
  log.append(1, new Uint8Array(5000));
  disk.failAt({ kinds: ["create"], count: 1, systemCode: "ENOSPC" });
  expect(() => log.append(1, new Uint8Array(9000))).toThrow("simulated ENOSPC");
  expect(log.append(2, text("small ones still fit"))).toBe(3);
  log.closeSync();
  expect(open({ storage: disk }).records.map(([lsn, kind]) => [lsn, kind])).toEqual([
    [1, 1],
    [2, 1],
    [3, 2],
  ]);
});

test("a recycled segment's old records never come back", () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  // Records of one size stand at the same offsets in each use of a file.
  for (let index = 1; index <= 200; index++) {
    log.append(1, text(String(index).padEnd(500, "x")));
    if (index % 20 !== 0) continue;
    log.flushSync("full");
    log.trim(index);
  }
  expect(disk.countOf("create")).toBeLessThan(5);
  log.append(1, text("last"));
  log.flushSync("full");
  const { records, log: again } = open({ storage: disk, afterLsn: 200 });
  expect(records).toEqual([[201, 1, "last"]]);
  expect(again.lastLsn).toBe(201);
});

test("trim keeps a few files for the next segments, and close gives all but one back", () => {
  const disk = new SimulatedStorage();
  const spares = (): number =>
    disk.listSync("log").filter((name) => name.startsWith("spare-")).length;
  const { log } = open({ storage: disk });
  for (let index = 0; index < 100; index++) log.append(1, new Uint8Array(1000));
  log.flushSync("full");
  log.trim(100);
  expect(spares()).toBe(4);
  expect(log.sizeBytes).toBe(5 * 16384);
  disk.clearTrace();
  for (let index = 0; index < 40; index++) log.append(1, new Uint8Array(1000));
  expect(spares()).toBeLessThan(2);
  expect(disk.countOf("create")).toBe(0);
  log.trim(log.durableLsn);
  expect(spares()).toBe(4);
  log.closeSync();
  expect(spares()).toBe(1);
  const again = open({ storage: disk, afterLsn: 140 });
  expect(again.records).toEqual([]);
  disk.clearTrace();
  again.log.append(1, text("x"));
  expect(disk.countOf("create")).toBe(0);
});

test("a record larger than a segment gets one of its own", () => {
  const { log } = open({ storage });
  log.append(1, text("small"));
  const large = Buffer.alloc(100_000, "large ");
  log.append(2, large);
  log.append(1, text("small again"));
  log.closeSync();
  const { records } = open({ storage });
  expect(records.map(([lsn, kind]) => [lsn, kind])).toEqual([
    [1, 1],
    [2, 2],
    [3, 1],
  ]);
  expect(records[1]?.[2]).toBe(large.toString("latin1"));
});

test("sealed records come back, hide their payload, and need the right key", () => {
  const disk = new SimulatedStorage();
  const ring = KeyRing.create(parseMasterKey(new Uint8Array(32).fill(1)));
  const { log } = open({ storage: disk, cipher: ring });
  log.append(1, text("a secret"));
  log.append(2, [text("another "), text("secret")]);
  log.append(3, new Uint8Array(0));
  log.closeSync();
  const bytes = Buffer.alloc(16384);
  disk.openFileSync("log/0000000001.wal", { mode: "read" }).readSync(0, bytes);
  expect(bytes.includes("secret")).toBe(false);
  expect(open({ storage: disk, cipher: ring }).records).toEqual([
    [1, 1, "a secret"],
    [2, 2, "another secret"],
    [3, 3, ""],
  ]);
  expect(() => open({ storage: disk })).toThrow(expect.objectContaining({ code: "KEY_REQUIRED" }));
  const other = KeyRing.create(parseMasterKey(new Uint8Array(32).fill(2)));
  expect(() => open({ storage: disk, cipher: other })).toThrow(
    expect.objectContaining({ code: "CORRUPT_LOG" }),
  );
});

test("a new active key starts a new segment, and both keys' segments are read", () => {
  const disk = new SimulatedStorage();
  const master = parseMasterKey(new Uint8Array(32).fill(1));
  const ring = KeyRing.create(master);
  let current = ring;
  const cipher = {
    get activeKeyNumber() {
      return current.activeKeyNumber;
    },
    seal: (...args: Parameters<KeyRing["seal"]>) => current.seal(...args),
    open: (...args: Parameters<KeyRing["open"]>) => current.open(...args),
    address: (bytes: Uint8Array) => current.address(bytes),
  };
  const { log } = open({ storage: disk, cipher });
  log.append(1, text("old key"));
  current = ring.rotate(master);
  log.append(1, text("new key"));
  log.closeSync();
  expect(disk.listSync("log")).toEqual(["0000000001.wal", "0000000002.wal"]);
  const { records } = open({ storage: disk, cipher });
  expect(records.map(([, , payload]) => payload)).toEqual(["old key", "new key"]);
  expect(() => open({ storage: disk, cipher: ring })).toThrow(
    expect.objectContaining({ code: "KEY_WRONG" }),
  );
});

test("bytesSince is never too low and too high by 64 KiB and a record at most", () => {
  const { log } = open({ segmentSize: 1 << 20 });
  for (let index = 0; index < 1000; index++) log.append(1, new Uint8Array(960));
  for (const lsn of [0, 1, 100, 555, 998, 999, 1000]) {
    const exact = (1000 - lsn) * 1000;
    expect(log.bytesSince(lsn)).toBeGreaterThanOrEqual(exact);
    expect(log.bytesSince(lsn)).toBeLessThanOrEqual(exact + 65536 + 1000);
  }
  expect(log.bytesSince(1000)).toBe(0);
  log.closeSync();
  const again = open({ segmentSize: 1 << 20 });
  expect(again.log.bytesSince(0)).toBe(1_000_000);
  expect(again.log.sizeBytes).toBeGreaterThanOrEqual(1_000_000);
});

test("opening and closing a log writes nothing", () => {
  const disk = new SimulatedStorage();
  const { log } = open({ storage: disk });
  log.append(1, text("one"));
  log.closeSync();
  disk.clearTrace();
  open({ storage: disk }).log.closeSync();
  expect(disk.countOf("write", "create", "rename", "delete", "sync", "syncDirectory")).toBe(0);
});

test("a closed log refuses every call but close", async () => {
  const { log } = open();
  log.closeSync();
  log.closeSync();
  await log.close();
  expect(() => log.append(1, text("x"))).toThrow(StoreError);
  expect(() => log.flushSync("full")).toThrow(expect.objectContaining({ code: "STORE_CLOSED" }));
  await expect(log.flush()).rejects.toHaveProperty("code", "STORE_CLOSED");
});

test("wrong arguments are refused before anything changes", () => {
  const { log } = open();
  expect(() => log.append(0, text("x"))).toThrow(RangeError);
  expect(() => log.append(256, text("x"))).toThrow(RangeError);
  expect(() => log.append(1, text("x"), 1, 3)).toThrow(RangeError);
  expect(() => log.append(1, text("x"), 1, 0)).toThrow(RangeError);
  expect(() => open({ segmentSize: 1000 })).toThrow(RangeError);
  expect(log.lastLsn).toBe(0);
});

test("any sequence of appends, flushes, trims and reopenings reads as an array would", async () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ append: fc.uint8Array({ maxLength: 5000 }) }) },
    fc.constantFrom("full" as const, "normal" as const, "off" as const),
    fc.constantFrom("flush" as const, "rotate" as const, "reopen" as const),
    fc.record({ trim: fc.double({ min: 0, max: 1, noNaN: true }) }),
  );
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    const disk = new SimulatedStorage();
    const model: string[] = [];
    let afterLsn = 0;
    let { log } = open({ storage: disk });
    const reopen = (): void => {
      const again = open({ storage: disk, afterLsn });
      const expected = model.slice(afterLsn).map((payload, i) => [afterLsn + i + 1, 3, payload]);
      expect(again.records).toEqual(expected);
      log = again.log;
    };
    for (const item of steps) {
      if (item === "flush") await log.flush();
      else if (item === "rotate") log.rotate();
      else if (item === "reopen") {
        await log.close();
        reopen();
      } else if (typeof item === "string") log.flushSync(item);
      else if ("append" in item) {
        model.push(Buffer.from(item.append).toString("latin1"));
        expect(log.append(3, item.append)).toBe(model.length);
      } else {
        afterLsn = Math.max(afterLsn, Math.floor(item.trim * log.durableLsn));
        log.trim(afterLsn);
      }
    }
    await log.close();
    reopen();
  });
  await fc.assert(property, { numRuns: 150 });
});
