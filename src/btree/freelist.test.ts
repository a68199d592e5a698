import fc from "fast-check";
import { expect, test } from "vitest";
import { fileLayout, writeUint32, type FileLayout } from "./file-layout.ts";
import { takeFreePages, trunkBefore, trunksOf, type StoredFreelist } from "./freelist.ts";

const PAGE_SIZE = 512;

function layoutOf(): FileLayout {
  const pageOne = new Uint8Array(PAGE_SIZE);
  pageOne[16] = PAGE_SIZE >> 8;
  const layout = fileLayout(pageOne, PAGE_SIZE);
  if (layout === null) throw new Error("Page 1 says what the file is");
  return layout;
}

type Trunk = readonly [trunk: number, ...leaves: number[]];

interface Pages extends StoredFreelist {
  readonly stored: Map<number, Uint8Array>;
}

function freelist(trunks: readonly Trunk[], change: Partial<StoredFreelist> = {}): Pages {
  const stored = new Map<number, Uint8Array>();
  for (const [index, [trunk, ...leaves]] of trunks.entries()) {
    const page = new Uint8Array(PAGE_SIZE);
    writeUint32(page, 0, trunks[index + 1]?.[0] ?? 0);
    writeUint32(page, 4, leaves.length);
    for (const [at, leaf] of leaves.entries()) writeUint32(page, 8 + 4 * at, leaf);
    stored.set(trunk, page);
  }
  return {
    trunk: trunks[0]?.[0] ?? 0,
    count: trunks.flat().length,
    layout: layoutOf(),
    pageCount: 1000,
    page: (number) => stored.get(number)!,
    ...change,
    stored,
  };
}

/** What is on the list, trunks in order with their leaves. */
function read({ trunk, page }: Pick<StoredFreelist, "trunk" | "page">): number[][] | null {
  const trunks = trunksOf(trunk, page, 1000);
  if (trunks === null) return null;
  return trunks.map(([number, bytes]) => {
    const view = new DataView(bytes.buffer);
    const leaves = Array.from({ length: view.getUint32(4) }, (_, at) => view.getUint32(8 + 4 * at));
    return [number, ...leaves];
  });
}

test("leaves are taken before their trunk, from the front", () => {
  const list = freelist([[10, 11, 12], [20], [30, 31]]);
  expect(takeFreePages(list, { count: 2, fence: 0 })).toMatchObject({
    pages: [11, 12],
    freelist: { trunk: 10, count: 4 },
    changed: { number: 10 },
  });
  expect(takeFreePages(list, { count: 3, fence: 0 })).toMatchObject({
    pages: [10, 11, 12],
    freelist: { trunk: 20, count: 3 },
    changed: null,
  });
  expect(takeFreePages(list, { count: 9, fence: 0 })).toMatchObject({
    pages: [10, 11, 12, 20, 30, 31],
    freelist: { trunk: 0, count: 0 },
    changed: null,
  });
});

test("nothing is taken from the fence on", () => {
  const list = freelist([[10, 11, 12], [20], [30, 31]]);
  expect(takeFreePages(list, { count: 9, fence: 20 })).toMatchObject({
    pages: [10, 11, 12],
    freelist: { trunk: 20, count: 3 },
  });
  expect(takeFreePages(list, { count: 9, fence: 10 }).pages).toEqual([]);
});

test("what is taken and what is left are the list, whatever is taken", () => {
  const trunks = fc
    .uniqueArray(fc.integer({ min: 2, max: 1000 }), { maxLength: 60 })
    .chain((pages) =>
      fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 60, maxLength: 60 }).map((sizes) => {
        const made: number[][] = [];
        for (let at = 0; at < pages.length; at += sizes[made.length - 1]!)
          made.push(pages.slice(at, at + sizes[made.length]!));
        return made as unknown as Trunk[];
      }),
    );
  fc.assert(
    fc.property(trunks, fc.nat(70), fc.nat(20), (made, count, fenceAt) => {
      const list = freelist(made);
      const fence = made[fenceAt]?.[0] ?? 0;
      const before = list.stored.get(list.trunk)?.slice();
      const { pages, freelist: left, changed } = takeFreePages(list, { count, fence });
      const allowed = fence === 0 ? made.flat().length : made.slice(0, fenceAt).flat().length;
      expect(pages.length).toBe(Math.min(count, allowed));
      if (changed !== null) list.stored.set(changed.number, changed.page);
      expect(before).toEqual(changed?.number === list.trunk ? before : list.stored.get(list.trunk));
      const rest = read({ ...left, page: (number) => list.stored.get(number)! })!.flat();
      expect(rest.length).toBe(left.count);
      expect([...pages, ...rest].sort((a, b) => a - b)).toEqual(made.flat().sort((a, b) => a - b));
    }),
  );
});

test.each<[string, Pages]>([
  ["a leaf behind the end of the file", freelist([[10, 11, 1001]])],
  ["page 1 as a leaf", freelist([[10, 1]])],
  ["a trunk behind the end of the file", freelist([[1001, 11]])],
  [
    "a leaf that is there twice",
    freelist([
      [10, 11],
      [20, 11],
    ]),
  ],
  ["a trunk that is its own leaf", freelist([[10, 10]])],
  ["trunks in a circle", circle()],
  ["more pages than page 1 counts", freelist([[10, 11, 12]], { count: 2 })],
  ["an end before what page 1 counts", freelist([[10, 11, 12]], { count: 4 })],
])("nothing is taken of a damaged list: %s", (_, list) => {
  expect(takeFreePages(list, { count: 5, fence: 0 })).toEqual({
    pages: [],
    freelist: expect.objectContaining({ trunk: list.trunk, count: list.count }) as unknown,
    changed: null,
  });
});

function circle(): Pages {
  const list = freelist(
    [
      [10, 11],
      [20, 21],
    ],
    { count: 50 },
  );
  writeUint32(list.stored.get(20)!, 0, 10);
  return list;
}

test("a count of leaves that no trunk can have is damage", () => {
  const list = freelist([[10, 11]]);
  writeUint32(list.stored.get(10)!, 4, 127);
  expect(takeFreePages(list, { count: 5, fence: 0 }).pages).toEqual([]);
});

test("the trunk before another one", () => {
  const list = freelist([[10, 11], [20], [30]]);
  expect(trunkBefore(list, 30)).toBe(20);
  expect(trunkBefore(list, 10)).toBeNull();
  expect(trunkBefore(list, 11)).toBeNull();
  expect(trunkBefore(circle(), 99)).toBeNull();
});
