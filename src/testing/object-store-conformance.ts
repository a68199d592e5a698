import { afterEach, describe, expect, test } from "vitest";

import { StoreError } from "../errors.ts";
import type { ListedObject, ListOptions, ObjectStore } from "../remote/object-store.ts";
import { Random } from "./random.ts";

export interface ObjectStoreUnderTest {
  /** Opens the same place as another client would. */
  readonly open: () => ObjectStore;
  readonly cleanUp: () => void | Promise<void>;
}

export interface ConformanceOptions {
  /** How many objects there must be for a list to need several pages. */
  readonly pageSize?: number;
  /** Of the largest body. */
  readonly largeBytes?: number;
  readonly racers?: number;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

async function listed(
  store: ObjectStore,
  prefix: string,
  options?: ListOptions,
): Promise<ListedObject[]> {
  const found: ListedObject[] = [];
  for await (const object of store.list(prefix, options)) found.push(object);
  return found;
}

async function keysOf(
  store: ObjectStore,
  prefix: string,
  options?: ListOptions,
): Promise<string[]> {
  return (await listed(store, prefix, options)).map(({ key }) => key);
}

async function textOf(store: ObjectStore, key: string): Promise<string | null> {
  const object = await store.get(key);
  return object === null ? null : new TextDecoder().decode(object.body);
}

/** The code of the failure; "done" when there is none. */
async function outcome(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "done";
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

/** What every object store must do (B1 to B5). `create` gives an empty place. */
export function describeObjectStore(
  name: string,
  create: () => ObjectStoreUnderTest | Promise<ObjectStoreUnderTest>,
  options: ConformanceOptions = {},
): void {
  const { pageSize = 30, largeBytes = 1024 * 1024, racers = 20 } = options;
  describe(`${name} as an object store`, () => {
    const cleanUps: (() => void | Promise<void>)[] = [];
    const place = async (): Promise<ObjectStoreUnderTest> => {
      const subject = await create();
      const stores: ObjectStore[] = [];
      cleanUps.push(async () => {
        for (const store of stores) store.close();
        await subject.cleanUp();
      });
      const open = (): ObjectStore => {
        const store = subject.open();
        stores.push(store);
        return store;
      };
      return { ...subject, open };
    };

    afterEach(async () => {
      for (const cleanUp of cleanUps.splice(0)) await cleanUp();
    });

    test("an object reads as it was put, from any client, until another replaces it", async () => {
      const { open } = await place();
      const [one, two] = [open(), open()];
      expect(await one.get("a/b")).toBeNull();
      const first = await one.put("a/b", text("first"));
      expect(await two.get("a/b")).toEqual({ body: text("first"), etag: first.etag });
      const second = await two.put("a/b", text("second"));
      expect(second.etag).not.toBe(first.etag);
      expect(await one.get("a/b")).toEqual({ body: text("second"), etag: second.etag });
    });

    test("bodies of every size come back byte for byte", async () => {
      const store = (await place()).open();
      const random = new Random(7);
      for (const size of [0, 1, 4095, 4096, 262_144, largeBytes]) {
        const body = new Uint8Array(size);
        random.bytes(Math.min(size, 1000)).forEach((byte, index) => {
          body[Math.floor((index * size) / 1000)] = byte;
        });
        await store.put(`size-${size}`, body);
        const back = await store.get(`size-${size}`);
        expect(back?.body.byteLength).toBe(size);
        expect(Buffer.compare(back?.body ?? text("none"), body)).toBe(0);
      }
    });

    test("a put takes the bytes as they are when it is called, wherever they lie in a buffer", async () => {
      const store = (await place()).open();
      const buffer = text("0123456789");
      await store.put("view", buffer.subarray(3, 7));
      expect(await textOf(store, "view")).toBe("3456");
    });

    test("ranges come as asked, short at the end, empty after it", async () => {
      const store = (await place()).open();
      await store.put("digits", text("0123456789"));
      const part = async (offset: number, length: number): Promise<string | null> => {
        const object = await store.get("digits", { range: { offset, length } });
        return object === null ? null : new TextDecoder().decode(object.body);
      };
      expect(await part(0, 10)).toBe("0123456789");
      expect(await part(2, 3)).toBe("234");
      expect(await part(9, 1)).toBe("9");
      expect(await part(8, 100)).toBe("89");
      expect(await part(10, 5)).toBe("");
      expect(await part(1000, 5)).toBe("");
      expect(await part(3, 0)).toBe("");
      expect(await store.get("none", { range: { offset: 0, length: 1 } })).toBeNull();
      expect(await store.get("none", { range: { offset: 100, length: 1 } })).toBeNull();
    });

    test("a put that wants no object there creates one once", async () => {
      const { open } = await place();
      const store = open();
      const condition = { absent: true } as const;
      const created = await store.put("manifest/1", text("mine"), { condition });
      expect(await outcome(open().put("manifest/1", text("other"), { condition }))).toBe(
        "CONDITION_FAILED",
      );
      expect(await store.get("manifest/1")).toEqual({ body: text("mine"), etag: created.etag });
      await store.delete(["manifest/1"]);
      expect(await outcome(open().put("manifest/1", text("next"), { condition }))).toBe("done");
    });

    test("a put that wants an etag replaces that object and no other", async () => {
      const { open } = await place();
      const store = open();
      const first = await store.put("manifest", text("1"), { condition: { absent: true } });
      const second = await store.put("manifest", text("2"), { condition: { etag: first.etag } });
      const stale = open().put("manifest", text("3"), { condition: { etag: first.etag } });
      expect(await outcome(stale)).toBe("CONDITION_FAILED");
      expect(await textOf(store, "manifest")).toBe("2");
      const seen = await open().get("manifest");
      expect(seen?.etag).toBe(second.etag);
      await store.delete(["manifest"]);
      const gone = store.put("manifest", text("4"), { condition: { etag: second.etag } });
      expect(await outcome(gone)).toBe("CONDITION_FAILED");
      expect(await store.get("manifest")).toBeNull();
    });

    test("of racing creations exactly one takes effect", async () => {
      const { open } = await place();
      const outcomes = await Promise.all(
        Array.from({ length: racers }, (_, index) =>
          outcome(open().put("race", text(`racer ${index}`), { condition: { absent: true } })).then(
            (result) => (result === "done" ? index : result),
          ),
        ),
      );
      const winners = outcomes.filter((result) => typeof result === "number");
      expect(winners).toHaveLength(1);
      expect(outcomes.filter((result) => result === "CONDITION_FAILED")).toHaveLength(racers - 1);
      expect(await textOf(open(), "race")).toBe(`racer ${winners[0]}`);
    });

    test("of racing replacements exactly one takes effect, round after round", async () => {
      const { open } = await place();
      let { etag } = await open().put("race", text("start"));
      for (let round = 0; round < 5; round++) {
        const condition = { etag };
        const outcomes = await Promise.all(
          Array.from({ length: 6 }, async (_, index) => {
            const put = open().put("race", text(`${round} ${index}`), { condition });
            return (await outcome(put)) === "done" ? [index] : [];
          }),
        );
        expect(outcomes.flat()).toHaveLength(1);
        const there = await open().get("race");
        expect(new TextDecoder().decode(there?.body)).toBe(`${round} ${outcomes.flat()[0]}`);
        etag = there?.etag ?? "";
      }
    });

    test("a list has all keys below a prefix in the order of their bytes", async () => {
      const { open } = await place();
      const store = open();
      const keys = [
        "a/1",
        "a/2",
        "a-b",
        "a.c",
        "a0",
        "ab/c/d",
        "b",
        "ä/é",
        "a/10",
        "a/1x/y",
        "a/b c+d",
        "a/e&f<g>",
        "a/%2F?#",
      ];
      for (const key of keys) await store.put(key, text(key));
      const sorted = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      const startingWith = (prefix: string): string[] =>
        sorted.filter((key) => key.startsWith(prefix));
      for (const prefix of ["", "a", "a/", "a/1", "ab/", "ab/c", "ä", "none", "none/x"])
        expect(await keysOf(open(), prefix), prefix).toEqual(startingWith(prefix));
      for (const startAfter of ["", "a/", "a/1", "a/1x", "a/1x/y", "a0", "ab/c/d", "zzz"]) {
        expect(await keysOf(store, "a", { startAfter }), startAfter).toEqual(
          startingWith("a").filter(
            (key) => Buffer.compare(Buffer.from(key), Buffer.from(startAfter)) > 0,
          ),
        );
      }
    });

    test("a list tells sizes and times", async () => {
      const store = (await place()).open();
      await store.put("x/1", new Uint8Array(1000));
      await store.put("x/2", new Uint8Array(0));
      const [one, two, ...more] = await listed(store, "x/");
      expect([one?.size, two?.size, more]).toEqual([1000, 0, []]);
      expect(one?.modifiedMs).toBeGreaterThan(0);
    });

    test("lists and deletions longer than a page are whole", async () => {
      const { open } = await place();
      const store = open();
      const count = pageSize + 17;
      const keys = Array.from(
        { length: count },
        (_, index) => `many/${String(index).padStart(5, "0")}`,
      );
      for (let start = 0; start < count; start += 50)
        await Promise.all(keys.slice(start, start + 50).map((key) => store.put(key, text(key))));
      expect(await keysOf(open(), "many/")).toEqual(keys);
      expect(await keysOf(store, "many/", { startAfter: keys[pageSize - 3]! })).toEqual(
        keys.slice(pageSize - 2),
      );
      await store.put("kept", text("kept"));
      await store.delete(keys.slice(1));
      expect(await keysOf(open(), "")).toEqual(["kept", keys[0]]);
    });

    test("a list may be left early", async () => {
      const store = (await place()).open();
      for (const key of ["a", "b", "c"]) await store.put(key, text(key));
      for await (const { key } of store.list("")) {
        expect(key).toBe("a");
        break;
      }
      expect(await textOf(store, "c")).toBe("c");
    });

    test("what is deleted is gone for everybody, and what is not there may be deleted", async () => {
      const { open } = await place();
      const store = open();
      await store.put("d/1", text("1"));
      await store.put("d/2", text("2"));
      await store.delete(["d/1", "d/none", "none/at/all"]);
      expect(await open().get("d/1")).toBeNull();
      expect(await keysOf(open(), "d/")).toEqual(["d/2"]);
      await store.delete(["d/2"]);
      await store.delete([]);
      expect(await keysOf(store, "")).toEqual([]);
      await store.put("d/1", text("again"));
      expect(await textOf(open(), "d/1")).toBe("again");
    });

    test("an aborted call fails with the reason of its signal", async () => {
      const store = (await place()).open();
      const reason = new StoreError("CANCELLED", "Cannot go on: the user gave up");
      const signal = AbortSignal.abort(reason);
      await expect(store.put("x", text("x"), { signal })).rejects.toBe(reason);
      await expect(store.get("x", { signal })).rejects.toBe(reason);
      await expect(store.delete(["x"], { signal })).rejects.toBe(reason);
      await expect(keysOf(store, "", { signal })).rejects.toBe(reason);
      await expect(store.get("x", { signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: "CANCELLED",
      });
      expect(await store.get("x")).toBeNull();
    });

    test.each([
      "",
      "/a",
      "a/",
      "a//b",
      "..",
      "a/../b",
      ".",
      "a/.b",
      "a\\b",
      "a\nb",
      "x".repeat(2000),
    ])("the key %j is refused", async (key) => {
      const store = (await place()).open();
      await expect(async () => store.put(key, text("x"))).rejects.toThrow(TypeError);
      await expect(async () => store.get(key)).rejects.toThrow(TypeError);
      await expect(async () => store.delete([key])).rejects.toThrow(TypeError);
    });
  });
}
