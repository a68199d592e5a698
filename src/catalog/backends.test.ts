import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { openNodeStorage } from "../storage/node-storage.ts";
import { Random } from "../testing/random.ts";
import {
  type Backend,
  BACKENDS,
  deleteOtherCatalogs,
  isCatalogThere,
  openBackend,
} from "./backends.ts";
import { copyCatalog, digestCatalog } from "./copy-catalog.ts";
import { type KeyValueStore, WriteBatch } from "./key-value.ts";
import { testProgram } from "../testing/test-program.ts";

const WRITER = testProgram(new URL("../testing/catalog-writer-process.ts", import.meta.url));

const LEAVER = testProgram(new URL("../testing/leave-open-process.ts", import.meta.url));

let directory = "";

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-backends-"));
});

afterEach(() => {
  fs.rmSync(directory, { recursive: true });
});

function textOf(store: KeyValueStore, key: string): string {
  return Buffer.from(store.get(Buffer.from(key)) ?? []).toString();
}

/** Runs the writer, kills it after `milliseconds`, and returns the last batch that it acknowledged. */
async function writeUntilKilled(
  backend: Backend,
  first: number,
  milliseconds: number,
): Promise<number> {
  const words = [WRITER, directory, String(first), backend];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
  let acknowledged = first - 1;
  for await (const line of createInterface({ input: child.stdout })) {
    if (acknowledged === first - 1) setTimeout(() => child.kill("SIGKILL"), milliseconds);
    acknowledged = Number(line);
  }
  return acknowledged;
}

describe.each(BACKENDS)("%s", (backend) => {
  test("K1: killed at any moment, every acknowledged batch is there and every batch is whole", async () => {
    const random = new Random(9);
    let first = 1;
    for (let round = 0; round < 5; round++) {
      const acknowledged = await writeUntilKilled(backend, first, random.integer(5, 150));
      expect(acknowledged).toBeGreaterThanOrEqual(first);
      const store = openBackend(backend, openNodeStorage(directory));
      const last = Number(textOf(store, "same0"));
      expect(last).toBeGreaterThanOrEqual(acknowledged);
      for (let key = 0; key < 20; key++) expect(textOf(store, `same${key}`)).toBe(String(last));
      expect(store.get(Buffer.from(`large${last % 3}`))?.at(-1)).toBe(last & 255);
      for (let number = 1; number <= last; number++) {
        const own = store.get(Buffer.from(`own${number}`));
        expect(own?.byteLength, `batch ${number}`).toBe(number % 5000);
      }
      expect(store.get(Buffer.from(`own${last + 1}`))).toBeUndefined();
      store.close();
      first = last + 1;
    }
  });

  test.each(["exit", "return"])(
    "a process that ends by %s without closing it does end, and left what it committed",
    (end) => {
      const words = [LEAVER, directory, backend, end];
      const { status, signal, stderr } = spawnSync(process.execPath, words, { timeout: 30_000 });
      expect({ status, signal }, String(stderr)).toEqual({ status: 0, signal: null });
      const store = openBackend(backend, openNodeStorage(directory));
      expect(textOf(store, "key")).toBe("value");
      store.close();
    },
  );

  test("a copy in any other backend has the same digest", () => {
    const storage = openNodeStorage(directory);
    const source = openBackend(backend, storage);
    const random = new Random(2);
    const batch = new WriteBatch();
    for (let row = 0; row < 3000; row++) {
      const value = row === 7 ? random.bytes(5_000_000) : random.bytes(row % 1000);
      batch.put(random.bytes(random.integer(1, 40)).fill(row & 127, 0, 1), value);
    }
    source.commit(batch);
    for (const other of BACKENDS.filter((name) => name !== backend)) {
      const target = openBackend(other, storage);
      expect(copyCatalog(source, target)).toEqual(digestCatalog(source));
      expect(digestCatalog(target)).toEqual(digestCatalog(source));
      target.close();
    }
    source.close();
    for (const name of BACKENDS) expect(isCatalogThere(name, storage)).toBe(true);
    deleteOtherCatalogs(backend, storage);
    for (const name of BACKENDS) expect(isCatalogThere(name, storage)).toBe(name === backend);
  });
});
