import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkHandles } from "../page/chunk-handle.ts";
import { encodeDelta } from "../page/page-delta.ts";
import { PagePlaces } from "../page/page-places.ts";
import { Random } from "../testing/random.ts";
import { PageBuffers } from "./page-buffers.ts";
import { Frame, FrameKind, Layer } from "./page-versions.ts";
import { emptySource, lockPageNumber, type PageSource, Snapshot, View } from "./snapshot.ts";
import type { PageHolder } from "./tracer.ts";

const PAGE_SIZE = 512;
const chunk = new ChunkHandles().intern(new Uint8Array(16));

interface Step {
  readonly page: number;
  readonly kind: FrameKind;
  readonly seed: number;
  /** A reference is staged, and so are the pages after it. */
  readonly isStaged: boolean;
  /** Somebody takes the page before the next commit, and holds it. */
  readonly isHeld: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  page: fc.integer({ min: 1, max: 3 }),
  kind: fc.oneof(
    { weight: 6, arbitrary: fc.constant(FrameKind.delta) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(FrameKind.image, FrameKind.zero, FrameKind.reference),
    },
  ),
  seed: fc.nat(1000),
  isStaged: fc.boolean(),
  isHeld: fc.boolean(),
});

/** Pages below the layer, and chunk pages, are made of their number. */
function basePage(page: number): Uint8Array {
  return new Random(page).bytes(PAGE_SIZE);
}
function chunkPage(slot: number): Uint8Array {
  return new Random(5000 + slot).bytes(PAGE_SIZE);
}

const base: PageSource = { ...emptySource, page: basePage, cachedPage: () => null };
const context = {
  pageSize: PAGE_SIZE,
  holders: new Set<PageHolder>(),
  readChunkPage: ({ slot }: { slot: number }): Uint8Array => chunkPage(slot),
};
const floor = { version: 0, pageCount: 3, timestampMs: 0 };

function frameFor({ kind, seed }: Step, version: number, before: Uint8Array): [Frame, Uint8Array] {
  if (kind === FrameKind.zero) return [Frame.ofZeros(version), new Uint8Array(PAGE_SIZE)];
  if (kind === FrameKind.reference) {
    const slot = seed % 64;
    return [Frame.ofReference(version, { chunk, slot }), chunkPage(slot)];
  }
  if (kind === FrameKind.image) {
    const image = new Random(seed).bytes(PAGE_SIZE);
    return [Frame.ofImage(version, image), image.slice()];
  }
  const after = before.slice().fill(seed & 0xff, seed % 500, (seed % 500) + 9);
  const delta = new Uint8Array(600);
  const end = 40 + encodeDelta(before, after, delta, 40, 500);
  const frame = Frame.ofDelta(version, delta, 40, end);
  frame.image = after;
  return [frame, after.slice()];
}

describe("page versions", () => {
  test("every version reads as it was made, although dropped images are written over", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const layer = new Layer(1);
        const buffers = new PageBuffers(PAGE_SIZE);
        const view = new View(context, [{ layer, maxVersion: Infinity }], base, floor);
        const expected: Uint8Array[][] = [[1, 2, 3].map(basePage)];
        const held: { page: Uint8Array; expected: Uint8Array }[] = [];
        const garbage = new Uint8Array(PAGE_SIZE).fill(0xee);
        for (const [index, one] of steps.entries()) {
          const version = index + 1;
          const pages = [...expected[index]!];
          expected.push(pages);
          if (one.kind === FrameKind.reference && one.isStaged) {
            const places = new PagePlaces();
            for (let number = one.page; number <= pages.length; number++) {
              const slot = (one.seed + number) % 64;
              places.set(number, { chunk, slot });
              pages[number - 1] = chunkPage(slot);
            }
            layer.pushStaged(places, version);
          } else {
            const [frame, image] = frameFor(one, version, pages[one.page - 1]!);
            pages[one.page - 1] = image;
            layer.push(one.page, frame, buffers);
          }
          const after = pages[one.page - 1]!;
          for (let count = 0; count < 3; count++) buffers.copy(garbage, 0);
          if (one.isHeld) held.push({ page: view.page(one.page, version), expected: after });
        }
        for (const [version, pages] of expected.entries())
          for (const [index, page] of pages.entries()) {
            expect(
              same(view.page(index + 1, version), page),
              `page ${index + 1} of ${version}`,
            ).toBe(true);
            expect(same(view.peek(index + 1, version), page)).toBe(true);
            const cached = view.cachedPage(index + 1, version);
            expect(cached === null || same(cached, page)).toBe(true);
          }
        const changed = [1, 2, 3].filter(
          (page) => new Set(expected.map((pages) => pages[page - 1])).size > 1,
        );
        expect([...layer.pageNumbers()]).toEqual(changed);
        for (const { page, expected: bytes } of held) expect(same(page, bytes)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  test("a bound layer shows no commits after its bound, and what is below instead", () => {
    const layer = new Layer(1);
    for (let version = 1; version <= 5; version++)
      layer.push(1, Frame.ofImage(version, new Uint8Array(PAGE_SIZE).fill(version)), null);
    const own = new Layer(2);
    own.push(2, Frame.ofImage(9, new Uint8Array(PAGE_SIZE).fill(99)), null);
    const layers = [
      { layer: own, maxVersion: Infinity },
      { layer, maxVersion: 3 },
    ];
    const view = new View(context, layers, base, floor);
    expect(view.page(1, 9)[0]).toBe(3);
    expect(view.page(1, 2)[0]).toBe(2);
    expect(same(view.page(1, 0), basePage(1))).toBe(true);
    expect(view.page(2, 9)[0]).toBe(99);
    expect(same(view.page(2, 8), basePage(2))).toBe(true);
  });

  test("versions only grow", () => {
    const layer = new Layer(1);
    layer.push(1, Frame.ofZeros(5), null);
    for (const version of [5, 4])
      expect(() => layer.push(1, Frame.ofZeros(version), null)).toThrow("follows 5");
  });

  test("the commit at a version is the newest at or before it", () => {
    const layer = new Layer(1);
    for (const version of [3, 7, 8])
      layer.commits.push({ version, timestampMs: 0, pageCount: 1, changedPages: 1 });
    const found = [2, 3, 6, 7, 8, 100].map((version) => layer.commitAt(version)?.version);
    expect(found).toEqual([undefined, 3, 3, 7, 8, 8]);
  });

  test("a snapshot as a source names every page that its layers changed", () => {
    const layer = new Layer(1);
    layer.push(2, Frame.ofZeros(1), null);
    layer.push(3, Frame.ofZeros(2), null);
    const view = new View(context, [{ layer, maxVersion: Infinity }], emptySource, floor);
    const source = new Snapshot(1, view, { version: 2, pageCount: 3, timestampMs: 0 }).asSource();
    expect([...source.origin().changedPages]).toEqual([2, 3]);
    expect(source.page(2)).toEqual(new Uint8Array(PAGE_SIZE));
  });

  test("the lock page is the one with the byte at 1 GiB", () => {
    expect([512, 4096, 65536].map(lockPageNumber)).toEqual([2097153, 262145, 16385]);
  });
});

function same(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}
