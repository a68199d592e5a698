import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
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
