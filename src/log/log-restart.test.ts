import { expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Log } from "./log.ts";

const STORE_ID = new Uint8Array(16).fill(9);
const RECORD = new Uint8Array(300_000).fill(7);
/** The second segment holds most of them, more than the smallest one could. */
const RECORDS = 9;

function open(storage: SimulatedStorage, afterLsn: number, seen: number[] = []): Log {
  return Log.open({
    storage,
    storeId: STORE_ID,
    cipher: null,
    afterLsn,
    segmentSize: 4 << 20,
    onRecord: (lsn) => seen.push(lsn),
  });
}

function filled(storage: SimulatedStorage): Log {
  const log = open(storage, 0);
  for (let record = 0; record < RECORDS; record++) log.append(1, RECORD);
  log.flushSync("full");
  return log;
}

test("a restarted log leaves next to nothing to read, and goes on with the next LSN", () => {
  const storage = new SimulatedStorage();
  const log = filled(storage);
  const before = log.sizeBytes;
  log.restart(RECORDS);
  log.closeSync();
  const seen: number[] = [];
  const reopened = open(storage, RECORDS, seen);
  expect(reopened.lastLsn).toBe(RECORDS);
  expect(reopened.sizeBytes).toBeLessThan(before);
  expect(reopened.append(1, RECORD)).toBe(RECORDS + 1);
  reopened.closeSync();
  open(storage, RECORDS, seen).closeSync();
  expect(seen).toEqual([RECORDS + 1]);
});

test("a log with records after the checkpoint, or with little in it, is not restarted", () => {
  const storage = new SimulatedStorage();
  const log = filled(storage);
  log.restart(RECORDS - 1);
  log.closeSync();
  const seen: number[] = [];
  const reopened = open(storage, RECORDS - 1, seen);
  expect(seen).toEqual([RECORDS]);
  reopened.closeSync();
  const small = new SimulatedStorage();
  const other = open(small, 0);
  other.append(1, Uint8Array.of(1));
  other.flushSync("full");
  small.clearTrace();
  other.restart(1);
  expect(small.trace).toEqual([]);
  other.closeSync();
});

test("a crash anywhere in restart and close leaves a log that opens at the checkpoint and goes on", () => {
  const counting = new SimulatedStorage();
  const log = filled(counting);
  counting.clearTrace();
  log.restart(RECORDS);
  log.closeSync();
  const operations = counting.trace.length;
  expect(operations).toBeGreaterThan(5);
  for (let operation = 1; operation <= operations; operation++) {
    const storage = new SimulatedStorage();
    const crashing = filled(storage);
    storage.crashAt({ count: operation });
    expect(() => {
      crashing.restart(RECORDS);
      crashing.closeSync();
    }, `operation ${operation}`).toThrow();
    storage.crash(new Random(operation));
    storage.reboot();
    const reopened = open(storage, RECORDS);
    expect(reopened.lastLsn, `operation ${operation}`).toBe(RECORDS);
    reopened.append(1, Uint8Array.of(1, 2, 3));
    reopened.flushSync("full");
    reopened.closeSync();
    const seen: number[] = [];
    open(storage, RECORDS, seen).closeSync();
    expect(seen, `operation ${operation}`).toEqual([RECORDS + 1]);
  }
});
