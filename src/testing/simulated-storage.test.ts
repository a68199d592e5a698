import { expect, test } from "vitest";

import { InvariantError } from "../errors.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { Random } from "./random.ts";
import { SimulatedCrash } from "./simulated-faults.ts";
import { SECTOR_SIZE } from "./simulated-inode.ts";
import { SimulatedStorage } from "./simulated-storage.ts";
import { describeStorage } from "./storage-conformance.ts";

describeStorage("the simulated disk", () => ({ storage: new SimulatedStorage(), cleanUp() {} }));

const text = (value: string): Uint8Array => Buffer.from(value);
const string = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

function diskWith(path: string, bytes: Uint8Array): SimulatedStorage {
  const disk = new SimulatedStorage();
  writeFileAtomicSync(disk, path, bytes);
  return disk;
}

/** What `read` sees over many crashes of the same moment. */
function outcomes<T>(disk: SimulatedStorage, read: (left: SimulatedStorage) => T): Set<T> {
  const seen = new Set<T>();
  for (let seed = 0; seed < 300; seed++) seen.add(read(disk.copyAfterCrash(new Random(seed))));
  return seen;
}

test("S1: unsynced writes are lost, kept and torn; synced ones are always there", () => {
  const disk = diskWith("a", new Uint8Array(3 * SECTOR_SIZE).fill(0x61));
  const file = disk.openFileSync("a", { mode: "write" });
  file.writeSync(0, new Uint8Array(3 * SECTOR_SIZE).fill(0x62));
  const read = (left: SimulatedStorage): string => {
    const bytes = readFileSync(left, "a");
    return [0, 1, 2]
      .map((sector) => string(bytes.subarray(sector * 512, sector * 512 + 1)))
      .join("");
  };
  expect(outcomes(disk, read)).toEqual(
    new Set(["aaa", "bbb", "aab", "aba", "baa", "abb", "bab", "bba"]),
  );
  file.syncSync();
  expect(outcomes(disk, read)).toEqual(new Set(["bbb"]));
});

test("S1: later writes can survive without earlier ones, never the other sector's bytes mixed", () => {
  const disk = diskWith("a", new Uint8Array(2 * SECTOR_SIZE).fill(0x30));
  const file = disk.openFileSync("a", { mode: "write" });
  file.writeSync(0, new Uint8Array(SECTOR_SIZE).fill(0x31));
  file.writeSync(SECTOR_SIZE, new Uint8Array(SECTOR_SIZE).fill(0x32));
  const seen = outcomes(disk, (left) => {
    const bytes = readFileSync(left, "a");
    expect(bytes.subarray(0, 512).every((byte) => byte === bytes[0])).toBe(true);
    return string(bytes.subarray(511, 513));
  });
  expect(seen).toEqual(new Set(["00", "10", "02", "12"]));
});

test("S1: an unsynced file can keep its size and lose its bytes", () => {
  const disk = diskWith("a", new Uint8Array(0));
  const file = disk.openFileSync("a", { mode: "write" });
  file.writeSync(0, new Uint8Array(1024).fill(9));
  const seen = outcomes(disk, (left) => {
    const bytes = readFileSync(left, "a");
    return `${bytes.byteLength}:${bytes.filter((byte) => byte === 9).byteLength}`;
  });
  expect(seen).toEqual(new Set(["0:0", "1024:0", "1024:512", "1024:1024"]));
});

test("S1: an asynchronous sync covers only what was written before it began", async () => {
  const disk = diskWith("a", text("0000"));
  const file = disk.openFileSync("a", { mode: "write" });
  file.writeSync(0, text("1111"));
  const syncing = file.sync();
  file.writeSync(0, text("2222"));
  await syncing;
  const seen = outcomes(disk, (left) => string(readFileSync(left, "a")));
  expect(seen).toEqual(new Set(["1111", "2222"]));
});

test("S2: names are lost without a sync of their directory, and whole after it", () => {
  const disk = diskWith("a", text("old"));
  const file = disk.openFileSync("b", { mode: "create" });
  file.writeSync(0, text("new"));
  file.syncSync();
  disk.renameSync("b", "a");
  const read = (left: SimulatedStorage): string =>
    left
      .listSync("")
      .map((name) => `${name}=${string(readFileSync(left, name))}`)
      .join();
  expect(outcomes(disk, read)).toEqual(new Set(["a=old", "a=old,b=new", "a=new"]));
  disk.syncDirectorySync("");
  expect(outcomes(disk, read)).toEqual(new Set(["a=new"]));
});

test("S2: a deletion can come undone until the directory is synced", () => {
  const disk = diskWith("a", text("x"));
  disk.deleteSync("a");
  expect(outcomes(disk, (left) => left.existsSync("a"))).toEqual(new Set([true, false]));
  disk.syncDirectorySync("");
  expect(outcomes(disk, (left) => left.existsSync("a"))).toEqual(new Set([false]));
});

test("S3: durable writes in place survive at once, those that extend the file may be lost", () => {
  const disk = diskWith("a", new Uint8Array(1024));
  const file = disk.openFileSync("a", { mode: "write", durableWrites: true });
  file.writeSync(100, text("safe"));
  file.writeSync(1022, text("tail"));
  const seen = outcomes(disk, (left) => {
    const bytes = readFileSync(left, "a");
    return `${string(bytes.subarray(100, 104))} ${bytes.byteLength}`;
  });
  expect(seen).toEqual(new Set(["safe 1024", "safe 1026"]));
});

test("S3: a durable write next to an unsynced tail does not lose the tail at the next sync", () => {
  const disk = diskWith("a", new Uint8Array(600));
  const file = disk.openFileSync("a", { mode: "write", durableWrites: true });
  file.writeSync(600, text("tail"));
  file.writeSync(590, text("front"));
  file.syncSync();
  disk.crash(new Random(3));
  expect(string(readFileSync(disk, "a").subarray(590))).toBe("front\0\0\0\0\0tail");
});

test("a crash point kills everything from its operation on, until the reboot", () => {
  const disk = diskWith("a", text("old"));
  disk.crashAt({ kinds: ["write"], count: 2 });
  const file = disk.openFileSync("a", { mode: "write" });
  file.writeSync(0, text("new"));
  expect(() => file.writeSync(0, text("NEW"))).toThrow(SimulatedCrash);
  expect(() => disk.existsSync("a")).toThrow(SimulatedCrash);
  expect(disk.isCrashed).toBe(true);
  disk.reboot();
  expect(() => file.readSync(0, new Uint8Array(1))).toThrow(InvariantError);
  expect(["old", "new", "NEW"]).toContain(string(readFileSync(disk, "a")));
});

test("a crash during a durable write can tear it", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    const disk = diskWith("a", new Uint8Array(1024).fill(0x30));
    const file = disk.openFileSync("a", { mode: "write", durableWrites: true });
    disk.crashAt({ kinds: ["write"], count: 1 });
    expect(() => file.writeSync(0, new Uint8Array(1024).fill(0x31))).toThrow(SimulatedCrash);
    disk.crash(new Random(seed));
    seen.add(string(readFileSync(disk, "a").subarray(511, 513)));
  }
  expect(seen).toEqual(new Set(["00", "01", "10", "11"]));
});

test("S4: a failing sync can drop the writes for good, and poisons the file", () => {
  const disk = diskWith("a", text("old"));
  const file = disk.openFileSync("a", { mode: "write" });
  disk.failAt({ kinds: ["sync"], count: 1, systemCode: "EIO", dropUnsynced: true });
  file.writeSync(0, text("new"));
  expect(() => file.syncSync()).toThrow(expect.objectContaining({ code: "IO" }));
  expect(() => file.syncSync()).toThrow(expect.objectContaining({ code: "IO" }));
  expect(string(readFileSync(disk, "a"))).toBe("new");
  disk.crash(new Random(1));
  expect(string(readFileSync(disk, "a"))).toBe("old");
});

test("failures hit the planned operation only, or all from it on", () => {
  const disk = diskWith("a", text("a"));
  disk.failAt({ kinds: ["rename"], count: 2, systemCode: "ENOSPC" });
  disk.renameSync("a", "b");
  expect(() => disk.renameSync("b", "c")).toThrow(expect.objectContaining({ code: "DISK_FULL" }));
  disk.renameSync("b", "c");
  disk.failAt({
    kinds: ["open"],
    path: (path) => path === "c",
    count: 1,
    systemCode: "EACCES",
    forever: true,
  });
  for (let round = 0; round < 3; round++) {
    expect(() => readFileSync(disk, "c")).toThrow(expect.objectContaining({ code: "PERMISSION" }));
  }
});

test("flipped bits and cut files are damaged on the medium too", () => {
  const disk = diskWith("a", text("abc"));
  disk.flipBit("a", 8);
  expect(string(readFileSync(disk, "a"))).toBe("acc");
  disk.crash(new Random(1));
  expect(string(readFileSync(disk, "a"))).toBe("acc");
  disk.truncateFile("a", 1);
  disk.crash(new Random(1));
  expect(string(readFileSync(disk, "a"))).toBe("a");
});

test("W1: a file replaced atomically is old or new after a crash at any operation, and new once acknowledged", () => {
  const replace = (disk: SimulatedStorage): void =>
    writeFileAtomicSync(disk, "a", text("new".repeat(700)));
  const clean = diskWith("a", text("old"));
  clean.clearTrace();
  replace(clean);
  const seen = new Set<string>();
  for (let count = 1; count <= clean.trace.length; count++) {
    for (let seed = 0; seed < 20; seed++) {
      const disk = diskWith("a", text("old"));
      disk.crashAt({ count });
      expect(() => replace(disk)).toThrow(SimulatedCrash);
      disk.crash(new Random(seed));
      seen.add(string(readFileSync(disk, "a")));
    }
  }
  expect(seen).toEqual(new Set(["old", "new".repeat(700)]));
  expect(outcomes(clean, (left) => string(readFileSync(left, "a")))).toEqual(
    new Set(["new".repeat(700)]),
  );
});

test("without the sync before the rename the same test finds broken files", () => {
  const disk = diskWith("a", text("old"));
  const file = disk.openFileSync("b", { mode: "create" });
  file.writeSync(0, text("new"));
  disk.renameSync("b", "a");
  disk.syncDirectorySync("");
  expect(outcomes(disk, (left) => string(readFileSync(left, "a")))).toContain("");
});

test("the same seed gives the same crash", () => {
  const left = (seed: number): string => {
    const disk = new SimulatedStorage({ seed });
    const random = new Random(5);
    for (const name of ["a", "b", "c"]) {
      const file = disk.openFileSync(name, { mode: "create" });
      for (let step = 0; step < 20; step++)
        file.writeSync(random.integer(0, 5000), random.bytes(700));
    }
    disk.reboot();
    return disk
      .listSync("")
      .map((name) => `${name} ${Buffer.from(readFileSync(disk, name)).toString("hex")}`)
      .join();
  };
  const results = [1, 2, 3, 4].map(left);
  expect([1, 2, 3, 4].map(left)).toEqual(results);
  expect(new Set(results).size).toBeGreaterThan(1);
});
