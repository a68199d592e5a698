import { afterEach, describe, expect, test } from "vitest";

import { InvariantError, StoreError, type StoreErrorCode } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { Random } from "./random.ts";

export interface StorageUnderTest {
  readonly storage: Storage;
  cleanUp(): void;
}

function code(action: () => unknown): StoreErrorCode | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

const text = (value: string): Uint8Array => Buffer.from(value);
const string = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** What every `Storage` must do, whatever is behind it. `open` gives an empty one, its own directory made. */
export function describeStorage(name: string, open: () => StorageUnderTest): void {
  describe(`${name} as a storage`, () => {
    const opened: StorageUnderTest[] = [];
    const fresh = (): Storage => {
      const subject = open();
      opened.push(subject);
      return subject.storage;
    };
    afterEach(() => {
      for (const subject of opened.splice(0)) subject.cleanUp();
    });
    describeFiles(fresh);
    describeNames(fresh);
    describeAsynchronous(fresh);
    describeWholeFiles(fresh);
  });
}

function describeFiles(fresh: () => Storage): void {
  test("a file reads what was written, at any offset, with zeros in holes", () => {
    const file = fresh().openFileSync("a", { mode: "create" });
    file.writeSync(0, text("hello"));
    file.writeSync(10_000, text("far"));
    expect(file.sizeSync()).toBe(10_003);
    const bytes = new Uint8Array(10_003).fill(1);
    expect(file.readSync(0, bytes)).toBe(10_003);
    expect(string(bytes.subarray(0, 5))).toBe("hello");
    expect(bytes.subarray(5, 10_000).every((byte) => byte === 0)).toBe(true);
    expect(string(bytes.subarray(10_000))).toBe("far");
    file.closeSync();
  });

  test("a read past the end returns what is there and leaves the rest of the target alone", () => {
    const file = fresh().openFileSync("a", { mode: "create" });
    file.writeSync(0, text("abc"));
    const target = new Uint8Array(5).fill(7);
    expect(file.readSync(1, target)).toBe(2);
    expect([...target]).toEqual([98, 99, 7, 7, 7]);
    expect(file.readSync(3, target)).toBe(0);
    expect(file.readSync(100, target)).toBe(0);
    file.closeSync();
  });

  test("truncating cuts, and growing by truncation gives zeros, not the old bytes", () => {
    const file = fresh().openFileSync("a", { mode: "create" });
    file.writeSync(0, text("abcdef"));
    file.truncateSync(2);
    file.truncateSync(4);
    const target = new Uint8Array(4).fill(7);
    expect(file.readSync(0, target)).toBe(4);
    expect([...target]).toEqual([97, 98, 0, 0]);
    file.closeSync();
  });

  test("random writes and truncations leave the same bytes as in memory", () => {
    const random = new Random(11);
    const storage = fresh();
    for (const durableWrites of [false, true]) {
      const file = storage.openFileSync(`f${durableWrites}`, { mode: "create", durableWrites });
      let model = new Uint8Array(0);
      for (let step = 0; step < 150; step++) {
        const dice = random.next();
        if (dice < 0.1) {
          const size = random.integer(0, 20_000);
          const next = new Uint8Array(size);
          next.set(model.subarray(0, size));
          model = next;
          file.truncateSync(size);
        } else if (dice < 0.2) {
          file.syncSync();
        } else {
          const offset = random.integer(0, 20_000);
          const bytes = random.bytes(random.integer(1, 3000));
          const next = new Uint8Array(Math.max(model.byteLength, offset + bytes.byteLength));
          next.set(model);
          next.set(bytes, offset);
          model = next;
          file.writeSync(offset, bytes);
        }
      }
      file.closeSync();
      expect(Buffer.compare(readFileSync(storage, `f${durableWrites}`), model)).toBe(0);
    }
  });

  test("a closed file refuses everything, and closing it again is harmless", () => {
    const file = fresh().openFileSync("a", { mode: "create" });
    file.closeSync();
    file.closeSync();
    expect(() => file.readSync(0, new Uint8Array(1))).toThrow(InvariantError);
    expect(() => file.writeSync(0, new Uint8Array(1))).toThrow(InvariantError);
    expect(() => file.syncSync()).toThrow(InvariantError);
  });

  test("a file opened for reading refuses writes", () => {
    const storage = fresh();
    storage.openFileSync("a", { mode: "create" }).closeSync();
    const file = storage.openFileSync("a", { mode: "read" });
    expect(code(() => file.writeSync(0, text("x")))).toBe("IO");
    expect(file.sizeSync()).toBe(0);
    file.closeSync();
  });
}

function describeNames(fresh: () => Storage): void {
  test("missing and taken names are errors with their own codes", () => {
    const storage = fresh();
    expect(code(() => storage.openFileSync("a", { mode: "read" }))).toBe("FILE_NOT_FOUND");
    expect(code(() => storage.openFileSync("a", { mode: "write" }))).toBe("FILE_NOT_FOUND");
    expect(code(() => storage.openFileSync("no/a", { mode: "create" }))).toBe("FILE_NOT_FOUND");
    expect(code(() => storage.deleteSync("a"))).toBe("FILE_NOT_FOUND");
    expect(code(() => storage.renameSync("a", "b"))).toBe("FILE_NOT_FOUND");
    expect(code(() => storage.syncDirectorySync("no"))).toBe("FILE_NOT_FOUND");
    storage.openFileSync("a", { mode: "create" }).closeSync();
    expect(code(() => storage.openFileSync("a", { mode: "create" }))).toBe("FILE_EXISTS");
  });

  test("directories are made with their parents, again without harm, and list what they hold", () => {
    const storage = fresh();
    storage.makeDirectorySync("x/y");
    storage.makeDirectorySync("x/y");
    for (const name of ["b", "a", "C"]) {
      storage.openFileSync(`x/${name}`, { mode: "create" }).closeSync();
    }
    expect(storage.listSync("x")).toEqual(["C", "a", "b", "y"]);
    expect(storage.listSync("x/y")).toEqual([]);
    expect(storage.listSync("")).toEqual(["x"]);
    expect(storage.listSync("missing")).toEqual([]);
    expect(storage.existsSync("x")).toBe(true);
    expect(storage.existsSync("x/a")).toBe(true);
    expect(storage.existsSync("x/z")).toBe(false);
    expect(storage.existsSync("x/a/under-a-file")).toBe(false);
    storage.syncDirectorySync("x");
    storage.syncDirectorySync("");
  });

  test("renaming replaces the target, and open files follow the file, not the name", () => {
    const storage = fresh();
    const first = storage.openFileSync("a", { mode: "create" });
    first.writeSync(0, text("one"));
    writeFileAtomicSync(storage, "b", text("two"));
    storage.renameSync("a", "b");
    expect(storage.existsSync("a")).toBe(false);
    expect(string(readFileSync(storage, "b"))).toBe("one");
    first.writeSync(0, text("ONE"));
    expect(string(readFileSync(storage, "b"))).toBe("ONE");
    first.closeSync();
  });

  test("a deleted file stays readable through open handles", () => {
    const storage = fresh();
    const file = storage.openFileSync("a", { mode: "create" });
    file.writeSync(0, text("kept"));
    storage.deleteSync("a");
    expect(storage.existsSync("a")).toBe(false);
    const target = new Uint8Array(4);
    expect(file.readSync(0, target)).toBe(4);
    expect(string(target)).toBe("kept");
    file.closeSync();
  });
}

function describeAsynchronous(fresh: () => Storage): void {
  test("asynchronous reads and writes agree with synchronous ones", async () => {
    const file = fresh().openFileSync("a", { mode: "create" });
    await Promise.all([file.write(0, text("hello ")), file.write(6, text("world"))]);
    await file.sync();
    const target = new Uint8Array(20);
    expect(await file.read(0, target)).toBe(11);
    expect(string(target.subarray(0, 11))).toBe("hello world");
    expect(file.readSync(6, target)).toBe(5);
    file.closeSync();
    await expect(file.read(0, target)).rejects.toThrow(InvariantError);
    await expect(file.write(0, target)).rejects.toThrow(InvariantError);
  });
}

function describeWholeFiles(fresh: () => Storage): void {
  test("whole files are replaced atomically, over a temporary file left by a crash", () => {
    const storage = fresh();
    storage.makeDirectorySync("d");
    writeFileAtomicSync(storage, "d/a", text("first, longer"));
    storage.openFileSync("d/a.new", { mode: "create" }).closeSync();
    writeFileAtomicSync(storage, "d/a", text("second"));
    expect(string(readFileSync(storage, "d/a"))).toBe("second");
    expect(storage.listSync("d")).toEqual(["a"]);
    expect(code(() => readFileSync(storage, "d/b"))).toBe("FILE_NOT_FOUND");
  });
}
