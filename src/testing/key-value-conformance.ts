import { afterEach, describe, expect, test } from "vitest";

import { KEY_SIZE_MAX } from "../catalog/key-order.ts";
import { type KeyValueStore, type RangeOptions, WriteBatch } from "../catalog/key-value.ts";
import { InvariantError } from "../errors.ts";
import { Random } from "./random.ts";

export interface KeyValueUnderTest {
  /** Opens the store; again after `close`. */
  open(): KeyValueStore;
  cleanUp(): void;
}

const text = (value: string): Uint8Array => Buffer.from(value);
const string = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const FIRST = new Uint8Array(0);
const LAST = new Uint8Array(KEY_SIZE_MAX).fill(0xff);
/** In one batch. */
const entryCount = process.env["BOUGH_TEST_LONG"] === "1" ? 100_000 : 20_000;
const ALL: RangeOptions = { start: FIRST, end: LAST };

function numberKey(value: number): Uint8Array {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, value);
  return key;
}

/** A batch from pairs; null deletes. */
function batchOf(
  entries: Iterable<readonly [string | Uint8Array, string | Uint8Array | null]>,
): WriteBatch {
  const batch = new WriteBatch();
  const bytes = (value: string | Uint8Array): Uint8Array =>
    typeof value === "string" ? text(value) : value;
  for (const [key, value] of entries) {
    if (value === null) batch.delete(bytes(key));
    else batch.put(bytes(key), bytes(value));
  }
  return batch;
}

function valueOf(store: KeyValueStore, key: string): string | undefined {
  const value = store.get(text(key));
  return value === undefined ? undefined : Buffer.from(value).toString();
}

function keysOf(store: KeyValueStore, options: RangeOptions = ALL): string[] {
  return Array.from(store.range(options), ({ key }) => Buffer.from(key).toString("latin1"));
}

/** What every key-value backend must do (K1-K3). `create` gives an empty place. */
export function describeKeyValue(name: string, create: () => KeyValueUnderTest): void {
  describe(`${name} as a key-value store`, () => {
    const subjects: KeyValueUnderTest[] = [];
    const stores: KeyValueStore[] = [];
    const place = (): (() => KeyValueStore) => {
      const subject = create();
      subjects.push(subject);
      return () => {
        const store = subject.open();
        stores.push(store);
        return store;
      };
    };
    afterEach(() => {
      for (const store of stores.splice(0)) store.close();
      for (const subject of subjects.splice(0)) subject.cleanUp();
    });
    describeEntries(place);
    describeRanges(place);
    describeLimits(place);
    describeModel(place);
  });
}

type Place = () => () => KeyValueStore;

function describeEntries(place: Place): void {
  test("entries are put, replaced and deleted, and are there after reopening", () => {
    const open = place();
    let store = open();
    expect(store.get(text("a"))).toBeUndefined();
    store.commit(
      batchOf([
        ["a", "1"],
        ["b", "2"],
        ["empty", ""],
      ]),
    );
    store.commit(
      batchOf([
        ["a", "changed"],
        ["b", null],
        ["missing", null],
      ]),
    );
    for (let round = 0; round < 2; round++) {
      expect(valueOf(store, "a")).toBe("changed");
      expect(valueOf(store, "b")).toBeUndefined();
      expect(valueOf(store, "empty")).toBe("");
      expect(keysOf(store)).toEqual(["a", "empty"]);
      store.close();
      store = open();
    }
  });

  test("the last operation on a key in a batch wins", () => {
    const store = place()();
    store.commit(
      batchOf([
        ["a", "1"],
        ["a", "2"],
        ["b", "1"],
        ["b", null],
        ["c", null],
        ["c", "3"],
      ]),
    );
    expect([valueOf(store, "a"), valueOf(store, "b"), valueOf(store, "c")]).toEqual([
      "2",
      undefined,
      "3",
    ]);
  });

  test("the caller may reuse its buffers after a commit", () => {
    const store = place()();
    const key = text("key");
    const value = text("value");
    const batch = new WriteBatch();
    batch.put(key, value);
    store.commit(batch);
    key.fill(0);
    value.fill(0);
    expect(valueOf(store, "key")).toBe("value");
  });

  test("views of larger buffers are stored as what they show", () => {
    const store = place()();
    const large = new Uint8Array(4000).fill(0x78);
    large.set(text("key"), 1000);
    large.set(text("value"), 2000);
    store.commit(batchOf([[large.subarray(1000, 1003), large.subarray(2000, 2005)]]));
    expect(Buffer.from(store.get(large.subarray(1000, 1003)) ?? []).toString()).toBe("value");
    expect(keysOf(store)).toEqual(["key"]);
  });

  test("values of many sizes, up to several MiB, come back whole", () => {
    const open = place();
    const sizes = [0, 1, 511, 512, 2000, 4096, 5000, 32_767, 32_768, 70_000, 1 << 20, 5_000_000];
    const random = new Random(3);
    const values = sizes.map((size) => random.bytes(size));
    let store = open();
    store.commit(batchOf(values.map((value, index) => [numberKey(index), value] as const)));
    store.close();
    store = open();
    for (const [index, value] of values.entries()) {
      const found = store.get(numberKey(index));
      expect(
        found !== undefined && Buffer.compare(found, value) === 0,
        `size ${value.byteLength}`,
      ).toBe(true);
    }
    const all = Array.from(store.range(ALL));
    expect(all.map(({ value }, index) => Buffer.compare(value, values[index] ?? FIRST))).toEqual(
      sizes.map(() => 0),
    );
  });

  test("a batch of many entries is one commit", () => {
    const open = place();
    let store = open();
    store.commit(
      batchOf(
        Array.from(
          { length: entryCount },
          (_, index) => [numberKey(index * 7), numberKey(index)] as const,
        ),
      ),
    );
    store.close();
    store = open();
    let count = 0;
    for (const { key, value } of store.range(ALL)) {
      if (
        Buffer.compare(key, numberKey(count * 7)) !== 0 ||
        Buffer.compare(value, numberKey(count)) !== 0
      )
        break;
      count++;
    }
    expect(count).toBe(entryCount);
    expect(store.estimatedSize()).toBeGreaterThan(8 * entryCount);
  });

  test("compaction changes nothing that is read, and later commits go on", () => {
    const open = place();
    let store = open();
    store.commit(
      batchOf(
        Array.from(
          { length: 3000 },
          (_, index) => [numberKey(index), new Uint8Array(1000).fill(index)] as const,
        ),
      ),
    );
    store.commit(
      batchOf(Array.from({ length: 2990 }, (_, index) => [numberKey(index), null] as const)),
    );
    store.compact();
    expect(store.estimatedSize()).toBeLessThan(200_000);
    store.commit(batchOf([["after", "compaction"]]));
    expect(keysOf(store)).toHaveLength(11);
    store.close();
    store = open();
    expect(valueOf(store, "after")).toBe("compaction");
    expect(store.get(numberKey(2999))).toHaveLength(1000);
  });
}

function describeRanges(place: Place): void {
  test("K2: keys are ordered as unsigned bytes, a prefix first", () => {
    const store = place()();
    const keys = ["\xff", "\x80", "b", "a\x00", "a", "\x00", "ab", "\x00\x00", "aa", "\x7f"];
    store.commit(batchOf(keys.map((key) => [Buffer.from(key, "latin1"), key] as const)));
    const sorted = ["\x00", "\x00\x00", "a", "a\x00", "aa", "ab", "b", "\x7f", "\x80", "\xff"];
    expect(keysOf(store)).toEqual(sorted);
    expect(keysOf(store, { ...ALL, reverse: true })).toEqual(sorted.toReversed());
  });

  test("a range includes its start and excludes its end, in both directions, with and without a limit", () => {
    const store = place()();
    store.commit(batchOf(["b", "d", "f", "h"].map((key) => [key, key] as const)));
    const range = (
      start: string,
      end: string,
      options: { reverse?: boolean; limit?: number } = {},
    ): string => keysOf(store, { start: text(start), end: text(end), ...options }).join("");
    expect(range("b", "h")).toBe("bdf");
    expect(range("a", "i")).toBe("bdfh");
    expect(range("c", "g")).toBe("df");
    expect(range("b", "h", { reverse: true })).toBe("fdb");
    expect(range("a", "i", { reverse: true })).toBe("hfdb");
    expect(range("c", "g", { reverse: true })).toBe("fd");
    expect(range("", "c", { reverse: true })).toBe("b");
    expect(range("b", "h", { limit: 2 })).toBe("bd");
    expect(range("b", "h", { limit: 2, reverse: true })).toBe("fd");
    expect(range("b", "h", { limit: 100 })).toBe("bdf");
    expect(range("b", "h", { limit: 0 })).toBe("");
    expect(range("d", "d")).toBe("");
    expect(range("h", "b")).toBe("");
    expect(range("h", "b", { reverse: true })).toBe("");
    expect(range("i", "z")).toBe("");
    expect(range("i", "z", { reverse: true })).toBe("");
    expect(range("", "a", { reverse: true })).toBe("");
  });

  test("K3: an iterator keeps its snapshot while commits go on, a new one sees them", () => {
    const store = place()();
    const before = Array.from({ length: 500 }, (_, index) => [numberKey(index), "old"] as const);
    store.commit(batchOf(before));
    const iterator = store.range(ALL)[Symbol.iterator]();
    let count = 0;
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
      expect(Buffer.from(next.value.value).toString(), `entry ${count}`).toBe("old");
      expect(Buffer.compare(next.value.key, numberKey(count))).toBe(0);
      count++;
      if (count % 50 === 0) {
        const changed = before.map(([key]) => [key, `new${count}`] as const);
        store.commit(
          batchOf([...changed, [numberKey(1000 + count), "added"], [numberKey(count + 1), null]]),
        );
        expect(store.get(numberKey(1000 + count))).toBeDefined();
      }
    }
    expect(count).toBe(500);
    expect(keysOf(store)).toHaveLength(510);
  });

  test("K3: an iterator keeps its snapshot over a compaction, and commits go on after it", () => {
    const open = place();
    let store = open();
    const keys = Array.from({ length: 2000 }, (_, index) => numberKey(index));
    store.commit(batchOf(keys.map((key) => [key, new Uint8Array(300).fill(1)] as const)));
    store.commit(batchOf(keys.slice(0, 500).map((key) => [key, "second"] as const)));
    const iterator = store.range(ALL)[Symbol.iterator]();
    const backwards = store.range({ ...ALL, reverse: true })[Symbol.iterator]();
    let count = 0;
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
      expect(Buffer.compare(next.value.key, numberKey(count))).toBe(0);
      expect(next.value.value.byteLength).toBe(count < 500 ? 6 : 300);
      expect(Buffer.compare(backwards.next().value?.key ?? FIRST, numberKey(1999 - count))).toBe(0);
      if (count === 10) store.commit(batchOf(keys.map((key) => [key, null] as const)));
      if (count === 20) store.compact();
      if (count === 30) store.commit(batchOf([["after", "both"]]));
      count++;
    }
    expect(count).toBe(2000);
    expect(backwards.next().done).toBe(true);
    store.compact();
    expect(store.estimatedSize()).toBeLessThan(200_000);
    store.close();
    store = open();
    expect(keysOf(store)).toEqual(["after"]);
  });

  test("several iterators run at once, also with reads between, and can be left early", () => {
    const store = place()();
    store.commit(
      batchOf(["a", "b", "c", "d", "e", "f"].map((key) => [key, key.toUpperCase()] as const)),
    );
    const seen: string[] = [];
    for (const outer of store.range(ALL)) {
      for (const inner of store.range({ ...ALL, reverse: true })) {
        seen.push([string(outer.key), string(inner.value), valueOf(store, "c")].join(""));
        if (string(inner.key) === "d") break;
      }
      if (seen.length >= 6) break;
    }
    expect(seen).toEqual(["aFC", "aEC", "aDC", "bFC", "bEC", "bDC"]);
    store.commit(batchOf([["a", null]]));
    expect(keysOf(store)).toEqual(["b", "c", "d", "e", "f"]);
  });

  test("a range can be iterated again and then sees later commits", () => {
    const store = place()();
    const range = store.range(ALL);
    expect([...range]).toEqual([]);
    store.commit(batchOf([["a", "1"]]));
    expect([...range]).toHaveLength(1);
  });
}

function describeLimits(place: Place): void {
  test("keys up to the limit are stored, empty and longer ones refused with the whole batch", () => {
    const store = place()();
    const longest = new Uint8Array(KEY_SIZE_MAX).fill(1);
    store.commit(batchOf([[longest, "longest"]]));
    expect(Buffer.from(store.get(longest) ?? []).toString()).toBe("longest");
    for (const key of [FIRST, new Uint8Array(KEY_SIZE_MAX + 1)]) {
      expect(() =>
        store.commit(
          batchOf([
            ["a", "1"],
            [key, "x"],
          ]),
        ),
      ).toThrow(RangeError);
      expect(() => store.commit(batchOf([[key, null]]))).toThrow(RangeError);
    }
    expect(valueOf(store, "a")).toBeUndefined();
    store.commit(batchOf([["a", "1"]]));
    expect(valueOf(store, "a")).toBe("1");
  });

  test("wrong limits and bounds are refused", () => {
    const store = place()();
    expect(() => store.range({ ...ALL, limit: -1 })).toThrow(RangeError);
    expect(() => store.range({ ...ALL, limit: 1.5 })).toThrow(RangeError);
    expect(() => store.range({ start: FIRST, end: new Uint8Array(KEY_SIZE_MAX + 1) })).toThrow(
      RangeError,
    );
  });

  test("an iterator that is open when the store closes throws at its next step, and can still be left", () => {
    const open = place();
    const store = open();
    store.commit(
      batchOf(Array.from({ length: 1000 }, (_, index) => [numberKey(index), "x"] as const)),
    );
    const advanced = store.range(ALL)[Symbol.iterator]();
    const left = store.range(ALL)[Symbol.iterator]();
    advanced.next();
    left.next();
    store.close();
    expect(() => advanced.next()).toThrow(InvariantError);
    left.return?.();
    const again = open();
    expect(keysOf(again)).toHaveLength(1000);
  });

  test("a closed store refuses everything, and closing it again is harmless", () => {
    const store = place()();
    store.commit(
      batchOf([
        ["a", "1"],
        ["b", "2"],
      ]),
    );
    const iterator = store.range(ALL)[Symbol.iterator]();
    expect(iterator.next().done).toBe(false);
    iterator.return?.();
    store.close();
    store.close();
    expect(() => store.get(text("a"))).toThrow(InvariantError);
    expect(() => [...store.range(ALL)]).toThrow(InvariantError);
    expect(() => store.commit(batchOf([["a", "1"]]))).toThrow(InvariantError);
    expect(() => store.compact()).toThrow(InvariantError);
  });
}

function describeModel(place: Place): void {
  test("random commits, ranges and reopenings agree with a plain map", () => {
    const open = place();
    const random = new Random(42);
    const model = new Map<string, string>();
    let store = open();
    const randomKey = (): string => {
      const length = random.integer(1, 3);
      return Array.from({ length }, () => random.pick(["\x00", "a", "b", "\xfe", "\xff"])).join("");
    };
    for (let step = 0; step < 300; step++) {
      const entries = Array.from({ length: random.integer(0, 6) }, () => {
        const value = random.chance(0.3) ? null : String(random.nextUint32());
        return [randomKey(), value] as const;
      });
      store.commit(
        batchOf(entries.map(([key, value]) => [Buffer.from(key, "latin1"), value] as const)),
      );
      for (const [key, value] of entries) {
        if (value === null) model.delete(key);
        else model.set(key, value);
      }
      if (random.chance(0.05)) {
        store.close();
        store = open();
      }
      if (random.chance(0.05)) store.compact();
      const [start, end] = [randomKey(), randomKey()];
      const reverse = random.chance(0.5);
      const limit = random.chance(0.5) ? random.integer(0, 5) : undefined;
      const expected = [...model.keys()].filter((key) => key >= start && key < end).sort();
      if (reverse) expected.reverse();
      const bounds = {
        start: Buffer.from(start, "latin1"),
        end: Buffer.from(end, "latin1"),
        reverse,
      };
      const found = [...store.range(limit === undefined ? bounds : { ...bounds, limit })];
      const shown = found.map(
        ({ key, value }) => `${Buffer.from(key).toString("hex")}=${string(value)}`,
      );
      const wanted = expected
        .slice(0, limit)
        .map((key) => `${Buffer.from(key, "latin1").toString("hex")}=${model.get(key)}`);
      expect(shown, `step ${step}`).toEqual(wanted);
    }
  });
}
