import { spawn } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { type Backend, openBackend } from "../catalog/backends.ts";
import { digestCatalog } from "../catalog/copy-catalog.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openMemoryKeyValue } from "../catalog/memory-key-value.ts";
import { canCompressZstd } from "../page/compression.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { Random } from "../testing/random.ts";
import { SimulatedCrash } from "../testing/simulated-faults.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { checkStore } from "./check-store.ts";
import { type CatalogPlaces, convertCatalog, convertStore } from "./convert-store.ts";
import { openStore } from "./store.ts";
import { readHeader, type StoreHeader, writeHeader } from "./store-header.ts";
import { testProgram } from "../testing/test-program.ts";

let directory = "";

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-convert-"));
});

afterEach(() => {
  fs.rmSync(directory, { recursive: true });
});

/** A store with two branches and some history, closed. */
function makeStore(path: string, backend: Backend): void {
  using store = openStore(path, { backend });
  const shop = store.createDatabase("shop");
  using main = store.connect("shop");
  main.exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)");
  const insert = main.prepare("INSERT INTO item (name) VALUES (?)");
  for (let number = 0; number < 300; number++) insert.run(`item ${number}`.repeat(20));
  shop.createBranch("dev");
  using dev = store.connect("shop/dev");
  dev.exec("UPDATE item SET name = 'changed' WHERE id % 7 = 0");
}

/** What every branch and an old version hold. */
function contentOf(path: string): unknown {
  using store = openStore(path, { create: false });
  return ["shop", "shop/dev", "shop@150"].map((revision) => {
    using connection = store.connect(revision);
    return connection.prepare("SELECT count(*), sum(id), group_concat(name) FROM item").get();
  });
}

async function problemsOf(path: string): Promise<unknown> {
  return (await checkStore(path, { deep: true })).problems;
}

describe("convertStore", () => {
  test("takes a store through all backends and back, and nothing that is read changes", async () => {
    const path = join(directory, "store");
    makeStore(path, "lmdb");
    const content = contentOf(path);
    const catalogFiles: Record<Backend, string> = {
      lmdb: "data.mdb",
      leveldb: "leveldb",
      memory: "catalog.kv",
    };
    let from: Backend = "lmdb";
    for (const to of ["leveldb", "memory", "lmdb", "memory", "leveldb", "lmdb"] as const) {
      const result = convertStore(path, { backend: to });
      expect(result).toMatchObject({ from, to });
      expect(result.entryCount).toBeGreaterThan(10);
      expect(await problemsOf(path)).toEqual([]);
      expect(contentOf(path)).toEqual(content);
      using store = openStore(path);
      expect(store.stat().disk.backend).toBe(to);
      const names = fs.readdirSync(join(path, "catalog"));
      expect(names).toContain(catalogFiles[to]);
      expect(names.filter((name) => name.startsWith(catalogFiles[from]))).toEqual(
        from === "leveldb" ? ["leveldb"] : [],
      );
      if (from === "leveldb") expect(fs.readdirSync(join(path, "catalog/leveldb"))).toEqual([]);
      from = to;
    }
  });

  test("a converted store takes commits, and they are there after reopening", () => {
    const path = join(directory, "store");
    makeStore(path, "lmdb");
    convertStore(path, { backend: "leveldb" });
    for (let round = 0; round < 3; round++) {
      using store = openStore(path);
      using connection = store.connect("shop");
      connection.exec("INSERT INTO item (name) VALUES ('later')");
      expect(connection.prepare("SELECT count(*) AS n FROM item").get()).toEqual({
        n: 301 + round,
      });
    }
  });

  test("the backend that a store has already is no change", () => {
    const path = join(directory, "store");
    makeStore(path, "memory");
    const before = fs.readFileSync(join(path, "store.json"));
    expect(convertStore(path, { backend: "memory" })).toMatchObject({ entryCount: 0 });
    expect(fs.readFileSync(join(path, "store.json"))).toEqual(before);
  });

  test("compression is recorded on the way, with or without another backend", () => {
    const path = join(directory, "store");
    makeStore(path, "memory");
    convertStore(path, { backend: "memory", compression: "none" });
    expect(readHeader(openNodeStorage(path)).compression).toBe("none");
    convertStore(path, { backend: "lmdb", compression: "lz4" });
    expect(readHeader(openNodeStorage(path)).compression).toBe("lz4");
    convertStore(path, { backend: "memory" });
    expect(readHeader(openNodeStorage(path)).compression).toBe("lz4");
    if (canCompressZstd()) return;
    expect(() => convertStore(path, { backend: "lmdb", compression: "zstd" })).toThrow(
      expect.objectContaining({ code: "STORE_FORMAT" }),
    );
  });

  test("a store that is open, is none, or has lost its catalog is refused and not changed", () => {
    const path = join(directory, "store");
    expect(() => convertStore(path, { backend: "lmdb" })).toThrow(
      expect.objectContaining({ code: "STORE_NOT_FOUND" }),
    );
    makeStore(path, "lmdb");
    const store = openStore(path);
    expect(() => convertStore(path, { backend: "leveldb" })).toThrow(
      expect.objectContaining({ code: "STORE_LOCKED" }),
    );
    store.close();
    for (const name of fs.readdirSync(join(path, "catalog")))
      fs.rmSync(join(path, "catalog", name));
    expect(() => convertStore(path, { backend: "leveldb" })).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
    expect(readHeader(openNodeStorage(path)).backend).toBe("lmdb");
  });

  test.each(["lmdb", "leveldb"] as const)(
    "a %s catalog that is lost is CORRUPT_CATALOG for a check, and never an empty store",
    async (backend) => {
      const path = join(directory, "store");
      makeStore(path, backend);
      openStore(path).close();
      const lost = join(path, "catalog", backend === "leveldb" ? "leveldb" : "");
      for (const name of fs.readdirSync(lost)) fs.rmSync(join(lost, name));
      expect(await problemsOf(path)).toMatchObject([{ code: "CORRUPT_CATALOG" }]);
      expect(() => openStore(path)).toThrow(expect.objectContaining({ code: "CORRUPT_CATALOG" }));
    },
  );

  test("a damaged catalog is refused, and stays in force for a repair", () => {
    const path = join(directory, "store");
    makeStore(path, "lmdb");
    const file = join(path, "catalog/data.mdb");
    const bytes = fs.readFileSync(file);
    fs.writeFileSync(file, bytes.fill(0, 3 * 4096));
    expect(() => convertStore(path, { backend: "memory" })).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
    expect(fs.readdirSync(join(path, "catalog"))).not.toContain("catalog.kv");
    expect(readHeader(openNodeStorage(path)).backend).toBe("lmdb");
  });

  test("what an interrupted conversion left is deleted at the next open", () => {
    const path = join(directory, "store");
    makeStore(path, "lmdb");
    const storage = openNodeStorage(path);
    for (const other of ["leveldb", "memory"] as const) {
      const left = openBackend(other, storage);
      const batch = new WriteBatch();
      batch.put(Buffer.from("left"), Buffer.from("over"));
      left.commit(batch);
      left.close();
    }
    openStore(path).close();
    expect(fs.readdirSync(join(path, "catalog")).sort()).toEqual([
      "data.mdb",
      "data.mdb-lock",
      "leveldb",
    ]);
    expect(fs.readdirSync(join(path, "catalog/leveldb"))).toEqual([]);
  });
});

/** Every backend as one in memory, each with its own file: only that one works on the simulated disk. */
const IN_MEMORY: CatalogPlaces = {
  open: (backend, storage) => openMemoryKeyValue(storage, `catalog/${backend}`),
  checkFiles: () => undefined,
  delete: (backend, storage) => {
    for (const name of [backend, `${backend}.new`]) {
      if (!storage.listSync("catalog").includes(name)) continue;
      storage.deleteSync(`catalog/${name}`);
      storage.syncDirectorySync("catalog");
    }
  },
};

describe("a conversion that is interrupted", () => {
  const header: StoreHeader = {
    storeId: new Uint8Array(16),
    createdAt: "2026-11-20T10:00:00.000Z",
    backend: "lmdb",
    encryption: null,
  };

  function diskWithCatalog(seed: number): { disk: Storage & SimulatedStorage; checksum: string } {
    const disk = new SimulatedStorage({ seed });
    disk.makeDirectorySync("catalog");
    writeHeader(disk, header);
    const store = IN_MEMORY.open("lmdb", disk);
    const random = new Random(seed);
    const batch = new WriteBatch();
    for (let row = 0; row < 50; row++) batch.put(random.bytes(17), random.bytes(row));
    store.commit(batch);
    const { checksum } = digestCatalog(store);
    store.close();
    return { disk, checksum };
  }

  test("by a crash at any operation leaves the old catalog or the new one, whole, and can be repeated", () => {
    for (let seed = 1; seed <= 3; seed++) {
      let hasEnded = false;
      for (let point = 1; !hasEnded; point++) {
        const { disk, checksum } = diskWithCatalog(seed);
        disk.clearTrace();
        disk.crashAt({ count: point });
        const what = `seed ${seed}, crash at ${point}`;
        try {
          convertCatalog(disk, header, "leveldb", IN_MEMORY);
          hasEnded = true;
          disk.clearFaults();
        } catch (error) {
          expect(error, what).toBeInstanceOf(SimulatedCrash);
          disk.crash(new Random(seed * 1000 + point));
        }
        const after = readHeader(disk);
        const inForce = IN_MEMORY.open(after.backend, disk);
        expect(digestCatalog(inForce).checksum, what).toBe(checksum);
        inForce.close();
        const to = after.backend === "lmdb" ? "leveldb" : "lmdb";
        convertCatalog(disk, after, to, IN_MEMORY);
        expect(readHeader(disk).backend, what).toBe(to);
        expect(digestCatalog(IN_MEMORY.open(to, disk)).checksum, what).toBe(checksum);
        expect(disk.listSync("catalog"), what).toEqual([to]);
        expect(point).toBeLessThan(500);
      }
    }
  });

  test("by a full disk leaves the old catalog, and no part of the new one", () => {
    const { disk, checksum } = diskWithCatalog(1);
    const places: CatalogPlaces = {
      ...IN_MEMORY,
      open: (backend, storage) => {
        if (backend === "leveldb")
          disk.failAt({
            kinds: ["write"],
            path: (path) => path === "catalog/leveldb.new",
            count: 1,
            systemCode: "ENOSPC",
          });
        return IN_MEMORY.open(backend, storage);
      },
    };
    expect(() => convertCatalog(disk, header, "leveldb", places)).toThrow(
      expect.objectContaining({ code: "DISK_FULL" }),
    );
    expect(readHeader(disk).backend).toBe("lmdb");
    expect(disk.listSync("catalog")).toEqual(["lmdb"]);
    expect(digestCatalog(IN_MEMORY.open("lmdb", disk)).checksum).toBe(checksum);
  });
});

const CONVERTER = testProgram(new URL("../testing/convert-process.ts", import.meta.url));

test("killed at any moment, a store that is converted to and fro is whole and opens", async () => {
  const path = join(directory, "store");
  makeStore(path, "lmdb");
  const content = contentOf(path);
  const random = new Random(5);
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, [CONVERTER, path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let count = 0;
    for await (const _ of createInterface({ input: child.stdout })) {
      if (++count === 2) setTimeout(() => child.kill("SIGKILL"), random.integer(0, 120));
    }
    expect(count).toBeGreaterThanOrEqual(2);
    expect(await problemsOf(path)).toEqual([]);
    expect(contentOf(path), `round ${round}`).toEqual(content);
  }
});
