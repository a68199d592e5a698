import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { expect, test } from "vitest";
import { TemporaryFile } from "./temporary-file.ts";

test("bytes come back from any offset, and a gap reads as zeros", () => {
  const file = new TemporaryFile();
  const text = Buffer.from("the quick brown fox jumps over the lazy dog");
  file.write(100_003, text);
  file.write(7, text);
  const read = new Uint8Array(100_003 + text.length);
  expect(file.read(0, read)).toBe(read.length);
  expect(Buffer.from(read.subarray(7, 7 + text.length))).toEqual(text);
  expect(Buffer.from(read.subarray(100_003))).toEqual(text);
  expect(read.subarray(7 + text.length, 100_003).every((byte) => byte === 0)).toBe(true);
  file.truncate(20);
  expect(file.read(10, read)).toBe(10);
  expect(Buffer.from(read.subarray(0, 10))).toEqual(text.subarray(3, 13));
  file.close();
});

test.runIf(process.platform === "linux")("the disk does not see what is written", () => {
  const file = new TemporaryFile();
  file.write(0, Buffer.from("confidential ".repeat(1000)));
  const paths = readdirSync("/proc/self/fd").map((name) => `/proc/self/fd/${name}`);
  const mine = paths.filter((path) => linkOf(path).includes("/temporary (deleted)"));
  expect(mine).toHaveLength(1);
  const stored = readFileSync(mine[0]!);
  expect(stored).toHaveLength(13_000);
  expect(stored.includes("confidential")).toBe(false);
  file.close();
});

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
