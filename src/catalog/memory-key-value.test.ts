import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

import { openNodeStorage } from "../storage/node-storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { describeKeyValue } from "../testing/key-value-conformance.ts";
import { Random } from "../testing/random.ts";
import { SimulatedCrash } from "../testing/simulated-faults.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { type KeyValueStore, WriteBatch } from "./key-value.ts";
import { openMemoryKeyValue } from "./memory-key-value.ts";

describeKeyValue("memory, on the simulated disk,", () => {
  const storage = new SimulatedStorage();
  return { open: () => openMemoryKeyValue(storage, "catalog"), cleanUp() {} };
});

describeKeyValue("memory, on the real disk,", () => {
  const directory = fs.mkdtempSync(join(tmpdir(), "bough-memory-"));
  return {
    open: () => openMemoryKeyValue(openNodeStorage(directory), "catalog"),
    cleanUp: () => fs.rmSync(directory, { recursive: true }),
  };
});

function batch(number: number): WriteBatch {
  const made = new WriteBatch();
  for (const key of ["a", "b", "c"]) made.put(Buffer.from(key), Buffer.from(String(number)));
  return made;
}

function values(store: KeyValueStore): string {
  const all = store.range({ start: new Uint8Array(0), end: Buffer.from("z") });
  return Array.from(all, ({ value }) => Buffer.from(value).toString()).join();
}

test("K1: after a crash at any operation, a batch is there whole or not at all, and always once acknowledged", () => {
  const seen = new Set<string>();
  for (let count = 1; ; count++) {
    let crashed = false;
    for (let seed = 0; seed < 20; seed++) {
      const disk = new SimulatedStorage();
      openMemoryKeyValue(disk, "catalog").commit(batch(1));
      const store = openMemoryKeyValue(disk, "catalog");
      disk.crashAt({ count });
      let acknowledged = 1;
      try {
        store.commit(batch(2));
        acknowledged = 2;
        store.commit(batch(3));
        acknowledged = 3;
      } catch (error) {
        expect(error).toBeInstanceOf(SimulatedCrash);
        crashed = true;
      }
      disk.crash(new Random(seed));
      const left = values(openMemoryKeyValue(disk, "catalog"));
      expect(
        [acknowledged, acknowledged + 1].map((number) => `${number},${number},${number}`),
      ).toContain(left);
      seen.add(left);
    }
    if (!crashed) break;
  }
  expect([...seen].sort()).toEqual(["1,1,1", "2,2,2", "3,3,3"]);
});

test("M3: a failed commit leaves the old entries, and the store refuses more until reopened", () => {
  for (const kind of ["create", "write", "sync", "rename", "syncDirectory"] as const) {
    const disk = new SimulatedStorage();
    const store = openMemoryKeyValue(disk, "catalog");
    store.commit(batch(1));
    disk.failAt({ kinds: [kind], count: 1, systemCode: "ENOSPC" });
    expect(() => store.commit(batch(2)), kind).toThrow(
      expect.objectContaining({ code: "DISK_FULL" }),
    );
    expect(values(store)).toBe("1,1,1");
    expect(() => store.commit(batch(3))).toThrow(expect.objectContaining({ code: "STORE_FAILED" }));
    openMemoryKeyValue(disk, "catalog").commit(batch(4));
    expect(values(openMemoryKeyValue(disk, "catalog"))).toBe("4,4,4");
  }
});

function diskWithGolden(): { disk: SimulatedStorage; bytes: Uint8Array } {
  const disk = new SimulatedStorage();
  const store = openMemoryKeyValue(disk, "catalog");
  const entries = new WriteBatch();
  entries.put(Buffer.from("k2"), Buffer.from("value"));
  entries.put(Buffer.from("k1"), new Uint8Array(0));
  store.commit(entries);
  return { disk, bytes: readFileSync(disk, "catalog") };
}

test("format version 1, byte for byte", () => {
  expect(Buffer.from(diskWithGolden().bytes).toString("hex")).toBe(
    [
      "424f5547484b5600", // magic
      "01000000" + "00000000", // version, reserved
      "0200000000000000", // entries
      "02000000" + "00000000" + "6b31",
      "02000000" + "05000000" + "6b32" + "76616c7565",
      "e5966a947d508aae",
    ].join(""),
  );
});

test("every single-bit flip and every truncation is CORRUPT_CATALOG", () => {
  const { disk, bytes } = diskWithGolden();
  const openDamaged = (damaged: Uint8Array): void => {
    writeFileAtomicSync(disk, "catalog", damaged);
    openMemoryKeyValue(disk, "catalog");
  };
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    expect(() => openDamaged(damaged), `bit ${bit}`).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
  }
  for (let size = 0; size < bytes.byteLength; size++) {
    expect(() => openDamaged(bytes.subarray(0, size)), `size ${size}`).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
  }
});
