import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { applyDelta, DeltaError, encodeDelta } from "./page-delta.ts";

function deltaOf(before: Uint8Array, after: Uint8Array, limit = 200_000): Uint8Array | null {
  const target = new Uint8Array(200_000);
  const size = encodeDelta(before, after, target, 0, limit);
  return size < 0 ? null : target.slice(0, size);
}

/** A page with the bytes from `offset` of a larger buffer, so that alignment can be chosen. */
function misaligned(page: Uint8Array, offset: number): Uint8Array {
  const buffer = new Uint8Array(page.length + 8);
  buffer.set(page, offset);
  return buffer.subarray(offset, offset + page.length);
}

const edits = fc.array(
  fc.record({
    at: fc.nat(4095),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 200 }),
  }),
  { maxLength: 20 },
);

describe("page delta", () => {
  test("golden bytes", () => {
    const before = new Uint8Array(1024);
    const after = before.slice();
    after.set([1, 2, 3], 5);
    after.set([9], 300);
    after.set([7, 0, 0, 0, 0, 0, 7], 400);
    after.fill(0xff, 1020);
    expect(Buffer.from(deltaOf(before, after)!).toString("hex")).toBe(
      "0503010203" + "a4020109" + "630707000000000007" + "e50404ffffffff",
    );
  });

  test("equal pages give an empty delta", () => {
    const page = new Uint8Array(4096).fill(7);
    expect(deltaOf(page, page.slice())).toHaveLength(0);
  });

  test("round trip, at any alignment, with one result", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(512, 4096, 65536),
        edits,
        fc.nat(3),
        fc.nat(3),
        fc.nat(255),
        (size, changes, alignmentBefore, alignmentAfter, fill) => {
          const before = new Uint8Array(size).fill(fill);
          const after = before.slice();
          for (const { at, bytes } of changes) {
            after.set(bytes.subarray(0, size - (at % size)), at % size);
          }
          const delta = deltaOf(before, after)!;
          expect(
            deltaOf(misaligned(before, alignmentBefore), misaligned(after, alignmentAfter)),
          ).toEqual(delta);
          const page = before.slice();
          applyDelta(page, delta, 0, delta.length);
          expect(Buffer.compare(page, after)).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("size is at most the limit, -1 beyond it, and nothing is written past it", () => {
    fc.assert(
      fc.property(edits, fc.nat(600), fc.nat(40), (changes, limit, offset) => {
        const before = new Uint8Array(4096);
        const after = before.slice();
        for (const { at, bytes } of changes) after.set(bytes.subarray(0, 4096 - at), at);
        const whole = deltaOf(before, after)!;
        const target = new Uint8Array(1000).fill(0xee);
        const size = encodeDelta(before, after, target, offset, limit);
        expect(size).toBe(whole.length <= limit ? whole.length : -1);
        expect(target.subarray(offset + limit).every((byte) => byte === 0xee)).toBe(true);
        expect(target.subarray(0, offset).every((byte) => byte === 0xee)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test("pages of different sizes are refused", () => {
    expect(() => deltaOf(new Uint8Array(512), new Uint8Array(1024))).toThrow(RangeError);
  });

  test("every truncation is refused or ends between two runs", () => {
    const before = new Uint8Array(4096);
    const after = before.slice();
    after.set([1, 2, 3, 4], 10);
    after.fill(5, 1000, 1200);
    const delta = deltaOf(before, after)!;
    const betweenRuns = new Set([0, 6, delta.length]);
    for (let end = 0; end <= delta.length; end++) {
      const page = before.slice();
      if (betweenRuns.has(end)) applyDelta(page, delta, 0, end);
      else expect(() => applyDelta(page, delta, 0, end), `end ${end}`).toThrow(DeltaError);
    }
  });

  test("any bytes change the page or are a DeltaError, and stay within the page", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const room = new Uint8Array(512 + 16).fill(0xee);
        const page = room.subarray(8, 520);
        try {
          applyDelta(page, bytes, 0, bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(DeltaError);
        }
        expect([...room.subarray(0, 8), ...room.subarray(520)]).toEqual(Array(16).fill(0xee));
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    ["empty run", [0, 0]],
    ["run past the page", [0xff, 0x03, 2, 1, 1]],
    ["length of four bytes", [0x80, 0x80, 0x80, 1, 1, 1]],
    ["length without its bytes", [0, 5, 1, 2]],
  ])("%s is refused", (_name, bytes) => {
    expect(() => applyDelta(new Uint8Array(512), Uint8Array.from(bytes), 0, bytes.length)).toThrow(
      DeltaError,
    );
  });

  test("a range outside of the bytes is refused", () => {
    expect(() => applyDelta(new Uint8Array(512), new Uint8Array(4), 0, 5)).toThrow(DeltaError);
  });
});
