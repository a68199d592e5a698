import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { SQLITE_IOERR_SHORT_READ, SQLITE_OK } from "./constants.ts";
import { MemoryFile } from "./memory-file.ts";

const directory = mkdtempSync(join(tmpdir(), "bough-test-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const operation = fc.oneof(
  fc.record({
    kind: fc.constant("write" as const),
    offset: fc.nat(300_000),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 70_000 }),
  }),
  fc.record({ kind: fc.constant("truncate" as const), size: fc.nat(300_000) }),
  fc.record({
    kind: fc.constant("read" as const),
    offset: fc.nat(320_000),
    length: fc.integer({ min: 1, max: 70_000 }),
  }),
);

function checkAgainstModel(memoryBytesMax: number, sharedBytesMax = 1e9): void {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 25 }), (operations) => {
      const shared = { bytes: 0, bytesMax: sharedBytesMax };
      const file = new MemoryFile({ directory, memoryBytesMax, shared });
      let model = Buffer.alloc(0);
      try {
        for (const step of operations) {
          if (step.kind === "write") {
            const heap = new Uint8Array(step.bytes.length + 3);
            heap.set(step.bytes, 3);
            expect(file.write(heap, 3, step.bytes.length, step.offset)).toBe(SQLITE_OK);
            const end = step.offset + step.bytes.length;
            if (end > model.length)
              model = Buffer.concat([model, Buffer.alloc(end - model.length)]);
            model.set(step.bytes, step.offset);
          } else if (step.kind === "truncate") {
            file.truncate(step.size);
            const kept = model.subarray(0, step.size);
            model = Buffer.concat([kept, Buffer.alloc(step.size - kept.length)]);
          } else {
            const heap = new Uint8Array(step.length).fill(0xee);
            const code = file.read(heap, 0, step.length, step.offset);
            const expected = new Uint8Array(step.length);
            expected.set(model.subarray(step.offset, step.offset + step.length));
            expect(Buffer.compare(heap, expected)).toBe(0);
            const short = step.offset + step.length > model.length;
            expect(code).toBe(short ? SQLITE_IOERR_SHORT_READ : SQLITE_OK);
          }
          expect(file.size()).toBe(model.length);
        }
      } finally {
        file.close();
      }
    }),
    { numRuns: 60 },
  );
}

test("a temporary file in memory behaves like an array of bytes", () => checkAgainstModel(1e9));

test("a temporary file that spills to disk behaves like an array of bytes", () =>
  checkAgainstModel(100_000));

test("a temporary file that spills because of others behaves like an array of bytes", () =>
  checkAgainstModel(1e9, 100_000));

test("a temporary file leaves nothing behind after it spilled and closed", () => {
  const file = new MemoryFile({ directory, memoryBytesMax: 10 });
  file.write(new Uint8Array(100), 0, 100, 0);
  expect(file.spilled).toBe(true);
  file.close();
  expect(readdirSync(directory)).toEqual([]);
});

test("temporary files that have more memory together than they may share spill, and give back what they had", () => {
  const block = 64 * 1024;
  const shared = { bytes: 0, bytesMax: 3 * block };
  const [first, second, third] = [1, 2, 3].map(() => new MemoryFile({ directory, shared }));
  const heap = new Uint8Array(2 * block).fill(7);
  first!.write(heap, 0, 2 * block, 0);
  second!.write(heap, 0, 1000, 500_000); // One block, behind a gap.
  expect(shared.bytes).toBe(3 * block);
  third!.write(heap, 0, 1, 0);
  first!.write(heap, 0, 2 * block, 0); // Nothing more.
  expect([first, second, third].map((file) => file!.spilled)).toEqual([false, false, true]);
  second!.write(heap, 0, 1000, 0); // Into the gap.
  expect([second!.spilled, shared.bytes]).toEqual([true, 2 * block]);
  const read = new Uint8Array(1000);
  expect(second!.read(read, 0, 1000, 500_000)).toBe(SQLITE_OK);
  expect(read).toEqual(heap.subarray(0, 1000));
  first!.truncate(1);
  expect(shared.bytes).toBe(block);
  for (const file of [first, second, third]) file!.close();
  expect(shared.bytes).toBe(0);
  expect(readdirSync(directory)).toEqual([]);
});

test("a temporary file that cannot spill reports the directory", () => {
  const missing = join(directory, "missing");
  const file = new MemoryFile({ directory: missing, memoryBytesMax: 10 });
  const write = (): number => file.write(new Uint8Array(100), 0, 100, 0);
  expect(write).toThrow(StoreError);
  expect(write).toThrow(`Cannot create a temporary file: directory "${missing}"`);
});
