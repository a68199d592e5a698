import { expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Random } from "../testing/random.ts";
import { Log } from "./log.ts";
import { LogReader } from "./log-reader.ts";

const STORE_ID = new Uint8Array(16).fill(9);
const FIRST = "log/0000000001.wal";
const SECOND = "log/0000000002.wal";
const RECORDS = ["1:alpha", "2:beta and more", "1:gamma", "3:delta", "1:epsilon"];

function open(
  storage: SimulatedStorage,
  options: { storeId?: Uint8Array; afterLsn?: number } = {},
) {
  const records: string[] = [];
  const log = Log.open({
    storage,
    storeId: options.storeId ?? STORE_ID,
    cipher: null,
    afterLsn: options.afterLsn ?? 0,
    segmentSize: 8192,
    onRecord: (_lsn, kind, payload) => records.push(`${kind}:${Buffer.from(payload).toString()}`),
  });
  return { log, records };
}

function append(log: Log, record: string): void {
  log.append(Number(record[0]), Buffer.from(record.slice(2)));
}

/** Records 1 to 3 in a closed segment, 4 and 5 in a second one: one write, durable, and no end record unless `close`. */
function build(close: boolean): SimulatedStorage {
  const storage = new SimulatedStorage();
  const { log } = open(storage);
  for (const record of RECORDS.slice(0, 3)) append(log, record);
  log.rotate();
  for (const record of RECORDS.slice(3)) append(log, record);
  log.flushSync("full");
  if (close) log.closeSync();
  return storage;
}

function damageFound(storage: SimulatedStorage): StoreError[] {
  const reader = new LogReader({ storage, storeId: STORE_ID, cipher: null, afterLsn: 0 });
  return [...reader.entries()].flatMap((entry) => (entry.type === "damage" ? [entry.error] : []));
}

/** What opening gives: the records, or the code of the error. LogReader must see damage exactly when opening fails. */
function outcome(storage: SimulatedStorage): string[] | string {
  const copy = storage.copyAfterCrash(new Random(1));
  const damage = damageFound(copy);
  try {
    const { records, log } = open(copy);
    expect(damage).toEqual([]);
    expect(log.lastLsn).toBe(records.length);
    return records;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    expect(damage.map(({ message }) => message)).toContain(error.message);
    expect(error.details["segment"]).toMatch(/^log\/\d{10}\.wal$/);
    return error.code;
  }
}

/** Bits of the header's fields and of everything from the first record to `end`. */
function* bitsUpTo(end: number): Generator<number> {
  for (let bit = 0; bit < 96 * 8; bit++) yield bit;
  for (let bit = 4088 * 8; bit < end * 8; bit++) yield bit;
}

const END_OF_FIRST = 4096 + 48 + 56 + 48 + 56;

test("every single-bit flip in a segment that another follows is reported", () => {
  const storage = build(false);
  expect(outcome(storage)).toEqual(RECORDS);
  for (const bit of bitsUpTo(END_OF_FIRST)) {
    storage.flipBit(FIRST, bit);
    expect(outcome(storage), `bit ${bit}`).toBe("CORRUPT_LOG");
    storage.flipBit(FIRST, bit);
  }
  storage.flipBit(FIRST, END_OF_FIRST * 8 + 3);
  expect(outcome(storage)).toEqual(RECORDS);
});

test("a bit flip in the last segment is reported, or shortens a tail that nothing vouches for", () => {
  const storage = build(false);
  let shortened = 0;
  for (const bit of bitsUpTo(4096 + 48 + 48)) {
    storage.flipBit(SECOND, bit);
    const result = outcome(storage);
    if (typeof result === "string") expect(result).toBe("CORRUPT_LOG");
    else {
      shortened++;
      expect(bit).toBeGreaterThanOrEqual(4096 * 8);
      expect(result, `bit ${bit}`).toEqual(RECORDS.slice(0, bit < (4096 + 48) * 8 ? 3 : 4));
    }
    storage.flipBit(SECOND, bit);
  }
  expect(shortened).toBeGreaterThan(0);
});

test("after a clean close every bit flip in a record of the last segment is reported", () => {
  const storage = build(true);
  const endRecord = 4096 + 48 + 48;
  for (const bit of bitsUpTo(endRecord + 56)) {
    storage.flipBit(SECOND, bit);
    const result = outcome(storage);
    // A damaged end record leaves nothing but itself in doubt.
    const expected = bit < endRecord * 8 ? "CORRUPT_LOG" : RECORDS;
    expect(result, `bit ${bit}`).toEqual(expected);
    storage.flipBit(SECOND, bit);
  }
});

test("damage to a record that a later one says was durable is an error, naming segment and offset", () => {
  const storage = new SimulatedStorage();
  const { log } = open(storage);
  append(log, "1:first");
  log.flushSync("full");
  append(log, "1:second");
  log.flushSync("full");
  storage.flipBit(FIRST, (4096 + 33) * 8);
  expect(() => open(storage)).toThrow(
    'Cannot read log segment "log/0000000001.wal" at offset 4096: the record with LSN 1 is damaged, ' +
      "a record at offset 4144 says that it was durable",
  );
});

test("a hole in a write that was never acknowledged ends the log without an error", () => {
  const storage = new SimulatedStorage();
  const { log } = open(storage);
  append(log, "1:durable");
  log.flushSync("full");
  append(log, "1:lost");
  append(log, "1:reached the disk, but after a hole");
  log.flushSync("normal");
  storage.flipBit(FIRST, (4096 + 48 + 33) * 8);
  const again = open(storage);
  expect(again.records).toEqual(["1:durable"]);
  append(again.log, "1:new second");
  again.log.closeSync();
  expect(open(storage).records).toEqual(["1:durable", "1:new second"]);
});

test("every truncation of a segment is reported", () => {
  for (const path of [FIRST, SECOND]) {
    for (let size = 0; size < 8192; size += size > 4090 && size < 4500 ? 1 : 61) {
      const storage = build(true);
      storage.truncateFile(path, size);
      expect(outcome(storage), `${path} cut to ${size}`).toBe("CORRUPT_LOG");
    }
  }
});

test("a missing segment, a missing log and a log that ends before the checkpoint are reported", () => {
  const missingFirst = build(true);
  missingFirst.deleteSync(FIRST);
  expect(() => open(missingFirst)).toThrow("records from 1 on are missing");
  expect(open(missingFirst, { afterLsn: 3 }).records).toEqual(RECORDS.slice(3));

  const missingMiddle = build(true);
  const { log } = open(missingMiddle);
  append(log, "1:sixth");
  log.closeSync();
  missingMiddle.deleteSync(SECOND);
  missingMiddle.syncDirectorySync("log");
  expect(outcome(missingMiddle)).toBe("CORRUPT_LOG");
  expect(() => open(missingMiddle)).toThrow("segment 2 before it is missing");

  const missingLast = build(true);
  missingLast.deleteSync(SECOND);
  expect(() => open(missingLast, { afterLsn: 5 })).toThrow(
    "the log ends at LSN 3, the checkpoint is at 5",
  );
  expect(() => open(new SimulatedStorage(), { afterLsn: 5 })).toThrow("no segment is there");
});

test("segments of another store, and segments under another name, are refused", () => {
  expect(() => open(build(true), { storeId: new Uint8Array(16) })).toThrow(
    "the segment belongs to another store",
  );
  const renamed = build(true);
  renamed.renameSync(SECOND, "log/0000000003.wal");
  expect(() => open(renamed)).toThrow("the header says segment 2");
});

test("LogReader reports damage in several segments and goes on after each", () => {
  const storage = build(true);
  const { log } = open(storage);
  append(log, "1:sixth");
  log.closeSync();
  storage.flipBit(FIRST, (4096 + 60) * 8);
  storage.flipBit(SECOND, (4096 + 36) * 8);
  const before = storage.countOf("write", "create", "rename", "delete", "sync", "truncate");
  const reader = new LogReader({ storage, storeId: STORE_ID, cipher: null, afterLsn: 0 });
  const seen = [...reader.entries()].map((entry) =>
    entry.type === "record"
      ? `record ${entry.lsn}`
      : `${entry.type} ${entry.segment.slice(-5, -4)}`,
  );
  expect(seen.join(", ")).toBe(
    "segment 1, record 1, damage 1, segment 2, damage 2, segment 3, record 6, end 3",
  );
  expect(storage.countOf("write", "create", "rename", "delete", "sync", "truncate")).toBe(before);
});
