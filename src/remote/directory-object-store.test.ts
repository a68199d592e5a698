import { spawn } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { StoreError } from "../errors.ts";
import { describeObjectStore } from "../testing/object-store-conformance.ts";
import { DirectoryObjectStore } from "./directory-object-store.ts";
import { openObjectStore } from "./open-object-store.ts";
import { testProgram } from "../testing/test-program.ts";

const WRITER = testProgram(new URL("../testing/object-writer-process.ts", import.meta.url));
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function temporaryDirectory(): string {
  return fs.mkdtempSync(join(tmpdir(), "bough-objects-"));
}

describeObjectStore("A directory", () => {
  const directory = temporaryDirectory();
  return {
    open: () => openObjectStore(pathToFileURL(join(directory, "remote")).href),
    cleanUp: () => fs.rmSync(directory, { recursive: true }),
  };
});

describe("A directory with objects", () => {
  let root: string;
  let store: DirectoryObjectStore;
  beforeEach(() => {
    root = temporaryDirectory();
    store = new DirectoryObjectStore(root, "file:///objects");
  });
  afterEach(() => fs.rmSync(root, { recursive: true }));

  async function failure(call: Promise<unknown>): Promise<StoreError> {
    try {
      await call;
    } catch (error) {
      if (error instanceof StoreError) return error;
      throw error;
    }
    throw new Error("The call succeeded");
  }

  /** A process that counts; resolves with the lines that it printed, all of them acknowledged puts. */
  function startWriter(
    name: string,
    options: { rounds: number; killAfter?: number },
  ): Promise<string[]> {
    const child = spawn(
      process.execPath,
      [WRITER, pathToFileURL(root).href, name, String(options.rounds)],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const lines: string[] = [];
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      if (lines.length === options.killAfter) child.kill("SIGKILL");
    });
    return new Promise((resolve) => child.once("close", () => resolve(lines)));
  }

  test("an object is the file of its key, and nothing else stays", async () => {
    await store.put("a/b", text("hello"));
    await store.put("a/b", text("again"), { condition: { etag: (await store.get("a/b"))!.etag } });
    expect(fs.readFileSync(join(root, "a", "b"), "utf8")).toBe("again");
    expect(fs.readdirSync(root).toSorted()).toEqual([".writing", "a"]);
    expect(fs.readdirSync(join(root, ".writing"))).toEqual(["lock"]);
    expect(fs.readdirSync(join(root, ".writing", "lock"))).toEqual([]);
    await store.delete(["a/b"]);
    expect(fs.readdirSync(root)).toEqual([".writing"]);
  });

  test("processes that replace one object at once lose nothing, also when one is killed in the middle", async () => {
    const [first, second, killed] = await Promise.all([
      startWriter("first", { rounds: 25 }),
      startWriter("second", { rounds: 25 }),
      startWriter("killed", { rounds: 1000, killAfter: 10 }),
    ]);
    expect([first.length, second.length]).toEqual([25, 25]);
    const stored = fs.readFileSync(join(root, "count"), "utf8").trimEnd().split("\n");
    expect(new Set(stored).size).toBe(stored.length);
    for (const name of ["first", "second"])
      expect(stored.filter((line) => line.startsWith(name))).toEqual(
        name === "first" ? first : second,
      );
    const ofKilled = stored.filter((line) => line.startsWith("killed"));
    expect(ofKilled.slice(0, killed.length)).toEqual(killed);
    // The last one may have happened without its answer.
    expect(ofKilled.length - killed.length).toBeLessThanOrEqual(1);
    expect(await store.put("after", text("x"), { condition: { absent: true } })).toBeTruthy();
    await store.delete(["after"]);
  });

  test("what a crash left half written is no object, and goes away when it is a day old", async () => {
    const writing = join(root, ".writing");
    fs.mkdirSync(writing);
    const [young, old] = ["young", "old"].map((name) => join(writing, name));
    for (const path of [young!, old!]) fs.writeFileSync(path, "half");
    const dayAgo = Date.now() / 1000 - 25 * 3600;
    fs.utimesSync(old!, dayAgo, dayAgo);
    await store.put("x", text("x"));
    const keys: string[] = [];
    for await (const { key } of store.list("")) keys.push(key);
    expect(keys).toEqual(["x"]);
    expect([fs.existsSync(young!), fs.existsSync(old!)]).toEqual([true, false]);
  });

  test("directories that others delete meanwhile are made again", async () => {
    const other = new DirectoryObjectStore(root, "file:///objects");
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        await store.put(`deep/er/${index}`, text("x"));
        await other.delete([`deep/er/${index}`]);
        await other.put(`deep/er/x${index}`, text("y"), { condition: { absent: true } });
        await store.delete([`deep/er/x${index}`]);
      }),
    );
    expect(fs.existsSync(join(root, "deep"))).toBe(false);
  });

  test("a key above or below another object is refused at once, as is a root that is a file", async () => {
    await store.put("a", text("file"));
    await store.put("b/c", text("file"));
    for (const call of [
      () => store.put("a/b", text("x")),
      () => store.put("b", text("x")),
      () => new DirectoryObjectStore(join(root, "a"), "file:///objects").put("x", text("x")),
    ]) {
      const error = await failure(call());
      expect([error.code, error.retryable]).toEqual(["REMOTE_DENIED", false]);
    }
    expect(await store.get("a/b")).toBeNull();
    expect(await store.get("b")).toBeNull();
    expect(fs.readdirSync(join(root, ".writing"))).toEqual(["lock"]);
  });

  test("the etag of a part is no condition for a put", async () => {
    await store.put("x", text("0123"));
    const part = await store.get("x", { range: { offset: 0, length: 2 } });
    const put = store.put("x", text("4"), { condition: { etag: part!.etag } });
    expect((await failure(put)).code).toBe("CONDITION_FAILED");
  });

  test("a get that meets a replacement has the one or the other as a whole", async () => {
    const bodies = [new Uint8Array(300_000).fill(1), new Uint8Array(200_000).fill(2)];
    await store.put("x", bodies[0]!);
    const writer = (async () => {
      for (let round = 0; round < 30; round++) await store.put("x", bodies[round % 2]!);
    })();
    for (let round = 0; round < 200; round++) {
      const { body } = (await store.get("x"))!;
      expect(Buffer.compare(body, bodies[body[0]! - 1]!)).toBe(0);
    }
    await writer;
  });
});
