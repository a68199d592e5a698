import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkHandles, type ChunkReference } from "./chunk-handle.ts";
import { EMPTY_ROOT, PageMap, type PageMapRoot } from "./page-map.ts";
import { PagePlaces } from "./page-places.ts";

const handles = new ChunkHandles();
const chunks = Array.from({ length: 5 }, (_, index) =>
  handles.intern(new Uint8Array(16).fill(index)),
);

function openMap(nodes: Map<string, Uint8Array> = new Map()): PageMap {
  const load = (id: Uint8Array): Uint8Array | undefined => nodes.get(Buffer.from(id).toString());
  return new PageMap({ source: { load }, handles, cipher: null });
}

type Step =
  | { readonly type: "set"; readonly page: number; readonly chunk: number; readonly slot: number }
  | { readonly type: "delete" | "truncate"; readonly page: number };

const page = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 2 ** 32 - 2 }));
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        type: fc.constant("set" as const),
        page,
        chunk: fc.nat(chunks.length - 1),
        slot: fc.nat(63),
      }),
    },
    { weight: 2, arbitrary: fc.record({ type: fc.constant("delete" as const), page }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant("truncate" as const), page }) },
  ),
  { maxLength: 80 },
);

function apply(places: PagePlaces, model: Map<number, ChunkReference>, step: Step): void {
  switch (step.type) {
    case "set": {
      const reference = { chunk: chunks[step.chunk]!, slot: step.slot };
      places.set(step.page, reference);
      model.set(step.page, reference);
      return;
    }
    case "delete":
      places.delete(step.page);
      model.delete(step.page);
      return;
    case "truncate":
      places.truncate(step.page);
      for (const number of model.keys()) if (number > step.page) model.delete(number);
  }
}

describe("page places", () => {
  test("hold what a map of pages holds, in ascending order", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const places = new PagePlaces();
        const model = new Map<number, ChunkReference>();
        for (const step of list) {
          apply(places, model, step);
          expect(places.get(step.page)).toEqual(model.get(step.page));
          expect(places.has(step.page)).toBe(model.has(step.page));
        }
        const sorted = [...model].sort(([left], [right]) => left - right);
        expect(places.size).toBe(model.size);
        expect([...places.entries()]).toEqual(sorted);
        expect([...places.pages()]).toEqual(sorted.map(([number]) => number));
        places.clear();
        expect([places.size, [...places.entries()], places.memoryBytes]).toEqual([0, [], 0]);
      }),
    );
  });

  test("make the same page map as a sorted list of changes", () => {
    fc.assert(
      fc.property(steps, steps, (first, second) => {
        const nodes = new Map<string, Uint8Array>();
        const store = (update: ReturnType<PageMap["update"]>): PageMapRoot => {
          for (const { id, bytes } of update.newNodes) nodes.set(Buffer.from(id).toString(), bytes);
          return update.root;
        };
        let root = EMPTY_ROOT;
        for (const list of [first, second]) {
          const places = new PagePlaces();
          const model = new Map<number, ChunkReference>();
          for (const step of list) apply(places, model, step);
          const pageCount = Math.max(1, ...model.keys());
          const changes = [...places.entries()].map(([pageNumber, reference]) => ({
            pageNumber,
            ...reference,
          }));
          const expected = openMap(nodes).update(root, changes, pageCount);
          const update = openMap(nodes).update(root, places, pageCount);
          expect(update).toEqual(expected);
          root = store(update);
        }
      }),
    );
  });

  test("pages and slots that cannot be are refused", () => {
    const places = new PagePlaces();
    for (const [number, slot] of [
      [0, 0],
      [1, 64],
      [1, -1],
    ] as const)
      expect(() => places.set(number, { chunk: chunks[0]!, slot })).toThrow(RangeError);
    places.set(65, { chunk: chunks[0]!, slot: 0 });
    expect(() => openMap().update(EMPTY_ROOT, places, 64)).toThrow(RangeError);
  });

  test("an update of many leaves keeps a bounded number of them decoded, and reads all of them", () => {
    const places = new PagePlaces();
    const pageCount = 2000 * 64;
    for (let number = 1; number <= pageCount; number += 64)
      places.set(number, { chunk: chunks[number % chunks.length]!, slot: number % 63 });
    const nodes = new Map<string, Uint8Array>();
    const map = openMap(nodes);
    const { root, newNodes } = map.update(EMPTY_ROOT, places, pageCount);
    for (const { id, bytes } of newNodes) nodes.set(Buffer.from(id).toString(), bytes);
    expect(map.cachedNodes).toBeLessThanOrEqual(1024);
    for (let number = 1; number <= pageCount; number += 64)
      expect(map.lookup(root, number)).toEqual(places.get(number));
  });
});
