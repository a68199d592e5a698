import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StoreCipher } from "../encryption/cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import { ChunkHandles, idKey } from "./chunk-handle.ts";
import {
  EMPTY_ROOT,
  levelsFor,
  PageMap,
  type PageMapChange,
  type PageMapRoot,
  type PageMapUpdate,
} from "./page-map.ts";

const handles = new ChunkHandles();

function chunk(number: number): ReturnType<ChunkHandles["intern"]> {
  const id = new Uint8Array(16);
  new DataView(id.buffer).setUint32(12, number);
  return handles.intern(id);
}

/** Page maps over nodes in memory; a new one per `open`, so that nothing is read from a cache. */
class Nodes {
  readonly bytes = new Map<string, Uint8Array>();
  loads = 0;

  load(id: Uint8Array): Uint8Array | undefined {
    this.loads++;
    return this.bytes.get(idKey(id));
  }

  open(cachedNodesMax?: number): PageMap {
    return new PageMap({
      source: this,
      handles,
      cipher: null,
      ...(cachedNodesMax === undefined ? {} : { cachedNodesMax }),
    });
  }

  store({ root, newNodes }: PageMapUpdate): PageMapRoot {
    for (const { id, bytes } of newNodes) this.bytes.set(idKey(id), bytes);
    return root;
  }
}

function change(
  pageNumber: number,
  chunkNumber: number | null,
  slot = pageNumber % 64,
): PageMapChange {
  return { pageNumber, chunk: chunkNumber === null ? null : chunk(chunkNumber), slot };
}

/** Builds a map from what each page shall refer to. */
function build(nodes: Nodes, pages: Map<number, PageMapChange>, pageCount: number): PageMapRoot {
  const changes = [...pages.values()].toSorted((a, b) => a.pageNumber - b.pageNumber);
  return nodes.store(nodes.open().update(EMPTY_ROOT, changes, pageCount));
}

function idOf(root: PageMapRoot): string {
  return root.nodeId === null ? "none" : idKey(root.nodeId);
}

describe("page map", () => {
  test("levels are the fewest that cover the page count", () => {
    expect([0, 1, 64, 65, 4096, 4097, 262_144, 262_145, 2 ** 32 - 2].map(levelsFor)).toEqual([
      0, 1, 1, 2, 2, 3, 3, 4, 6,
    ]);
  });

  test("golden bytes of a leaf and of an interior node", () => {
    const nodes = new Nodes();
    const { root, newNodes } = nodes
      .open()
      .update(
        EMPTY_ROOT,
        [change(1, 0xabcd, 5), change(3, 7, 63), change(64, 0xabcd, 0), change(129, 7, 1)],
        130,
      );
    expect(newNodes.map(({ bytes }) => Buffer.from(bytes).toString("hex"))).toEqual([
      "01010102" +
        "0000000000000000000000000000abcd" +
        "00000000000000000000000000000007" +
        "0005ffff013f" +
        "ffff".repeat(60) +
        "0000",
      "01010101" + "00000000000000000000000000000007" + "0001" + "ffff".repeat(63),
      "02010202" +
        "0500000000000000" +
        Buffer.from(newNodes[0]!.id).toString("hex") +
        Buffer.from(newNodes[1]!.id).toString("hex"),
    ]);
    expect(newNodes.map(({ id }) => Buffer.from(id).toString("hex"))).toEqual([
      "b3925522a6e913e537a3d0792127cb73",
      "56c72126f1f4bd5729d02605673b347a",
      "d7b3b49d309dd7e73720cf527b7d284a",
    ]);
    expect(root).toEqual({ nodeId: newNodes[2]!.id, levels: 2, pageCount: 130 });
  });

  test("an empty map has no pages", () => {
    const map = new Nodes().open();
    expect(map.lookup(EMPTY_ROOT, 1)).toBeNull();
    expect(map.update(EMPTY_ROOT, [], 0)).toEqual({ root: EMPTY_ROOT, newNodes: [] });
    expect(map.update(EMPTY_ROOT, [], 100).root).toEqual({
      nodeId: null,
      levels: 2,
      pageCount: 100,
    });
  });

  test("random histories match a plain map, are canonical, keep old roots and diff exactly", () => {
    const step = fc.record({
      pageCount: fc.oneof(fc.nat(200), fc.nat(9000), fc.nat(400_000)),
      pages: fc.array(
        fc.record({ at: fc.nat(), chunk: fc.nat(40), absent: fc.nat(9), slot: fc.nat(63) }),
        {
          maxLength: 60,
        },
      ),
    });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 6 }),
        fc.nat(4),
        (steps, cachedNodesMax) => {
          const nodes = new Nodes();
          const map = nodes.open(cachedNodesMax);
          let model = new Map<number, PageMapChange>();
          let root = EMPTY_ROOT;
          const history: [PageMapRoot, Map<number, PageMapChange>][] = [[root, model]];
          for (const { pageCount, pages } of steps) {
            const next = new Map([...model].filter(([pageNumber]) => pageNumber <= pageCount));
            const changes = new Map<number, PageMapChange>();
            for (const page of pageCount === 0 ? [] : pages) {
              const pageNumber = (page.at % pageCount) + 1;
              const made = change(pageNumber, page.absent === 0 ? null : page.chunk, page.slot);
              changes.set(pageNumber, made);
              if (made.chunk === null) next.delete(pageNumber);
              else next.set(pageNumber, made);
            }
            const sorted = [...changes.values()].toSorted((a, b) => a.pageNumber - b.pageNumber);
            root = nodes.store(map.update(root, sorted, pageCount));
            model = next;
            history.push([root, model]);
            expect(idOf(root)).toBe(idOf(build(nodes, model, pageCount)));
          }
          for (const [oldRoot, oldModel] of history) {
            const fresh = nodes.open();
            const found = new Map<number, PageMapChange>();
            for (const visit of fresh.walk(oldRoot)) {
              for (const [index, reference] of (visit.pages ?? []).entries()) {
                if (reference === null) continue;
                const pageNumber = visit.firstPage + index;
                found.set(pageNumber, { pageNumber, ...reference });
              }
            }
            expect(found).toEqual(new Map([...oldModel].toSorted(([a], [b]) => a - b)));
            for (const [pageNumber, made] of oldModel) {
              expect(map.lookup(oldRoot, pageNumber)).toEqual({
                chunk: made.chunk,
                slot: made.slot,
              });
            }
            expect(map.lookup(oldRoot, oldRoot.pageCount + 1)).toBeNull();
            const differing = new Set<number>();
            for (const pageNumber of [...oldModel.keys(), ...model.keys()]) {
              const before = oldModel.get(pageNumber);
              const after = model.get(pageNumber);
              if (before?.chunk !== after?.chunk || before?.slot !== after?.slot)
                differing.add(pageNumber);
            }
            expect([...map.diff(oldRoot, root)]).toEqual([...differing].toSorted((a, b) => a - b));
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  test("one changed page of 262,144 copies one path and diffs by reading two", () => {
    const nodes = new Nodes();
    const changes = Array.from({ length: 262_144 }, (_, index) => change(index + 1, index >> 6));
    const root = nodes.store(nodes.open().update(EMPTY_ROOT, changes, changes.length));
    const update = nodes.open().update(root, [change(100_000, 9_999_999)], changes.length);
    expect(update.newNodes).toHaveLength(3);
    const after = nodes.store(update);
    nodes.loads = 0;
    expect([...nodes.open().diff(root, after)]).toEqual([100_000]);
    expect(nodes.loads).toBe(6);
  });

  test("an update that changes nothing makes no nodes", () => {
    const nodes = new Nodes();
    const root = nodes.store(nodes.open().update(EMPTY_ROOT, [change(1, 1), change(500, 2)], 500));
    expect(nodes.open().update(root, [change(500, 2)], 500)).toEqual({ root, newNodes: [] });
  });

  test("changes out of order, twice, past the end or with a bad slot are refused", () => {
    const map = new Nodes().open();
    expect(() => map.update(EMPTY_ROOT, [change(2, 1), change(1, 1)], 9)).toThrow(RangeError);
    expect(() => map.update(EMPTY_ROOT, [change(2, 1), change(2, 1)], 9)).toThrow(RangeError);
    expect(() => map.update(EMPTY_ROOT, [change(10, 1)], 9)).toThrow(RangeError);
    expect(() => map.update(EMPTY_ROOT, [change(0, 1)], 9)).toThrow(RangeError);
    expect(() => map.update(EMPTY_ROOT, [change(1, 1, 64)], 9)).toThrow(RangeError);
  });

  test("walk enters a shared node once when told so", () => {
    const nodes = new Nodes();
    const changes = Array.from({ length: 4096 }, (_, index) => change(index + 1, index >> 6));
    const first = nodes.store(nodes.open().update(EMPTY_ROOT, changes, 4096));
    const second = nodes.store(nodes.open().update(first, [change(1, 77_777)], 4096));
    const seen = new Set<string>();
    const enter = (key: string): boolean => !seen.has(key) && seen.add(key).size > 0;
    expect([...nodes.open().walk(first, enter)]).toHaveLength(65);
    expect([...nodes.open().walk(second, enter)]).toHaveLength(2);
  });
});

describe("damaged page map nodes", () => {
  function twoLevels(): { nodes: Nodes; root: PageMapRoot } {
    const nodes = new Nodes();
    const root = nodes.store(nodes.open().update(EMPTY_ROOT, [change(1, 1), change(70, 2)], 70));
    return { nodes, root };
  }

  function expectCorrupt(act: () => unknown, note: string): void {
    let caught: unknown;
    try {
      act();
    } catch (error) {
      caught = error;
    }
    expect(caught, note).toBeInstanceOf(StoreError);
    expect((caught as StoreError).code, note).toBe("CORRUPT_NODE");
    expect((caught as StoreError).message, note).toMatch(
      /^Cannot read page map node [0-9a-f]{32}: /,
    );
  }

  test("every single-bit flip and every truncation is found", () => {
    const { nodes, root } = twoLevels();
    for (const [key, bytes] of nodes.bytes) {
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const damaged = bytes.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        nodes.bytes.set(key, damaged);
        expectCorrupt(() => [...nodes.open().walk(root)], `bit ${bit}`);
      }
      for (let size = 0; size < bytes.length; size++) {
        nodes.bytes.set(key, bytes.subarray(0, size));
        expectCorrupt(() => [...nodes.open().walk(root)], `size ${size}`);
      }
      nodes.bytes.set(key, bytes);
    }
    expect([...nodes.open().walk(root)]).toHaveLength(3);
  });

  test("in an encrypted store node ids need its key, so that a forged node is refused", () => {
    const cipher = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
    const nodes = new Nodes();
    const open = (used: StoreCipher | null): PageMap =>
      new PageMap({ source: nodes, handles, cipher: used });
    const root = nodes.store(open(cipher).update(EMPTY_ROOT, [change(1, 1), change(70, 2)], 70));
    expect(open(cipher).lookup(root, 70)).toEqual({ chunk: chunk(2), slot: 6 });
    const forged = nodes.store(open(null).update(EMPTY_ROOT, [change(1, 1), change(70, 9)], 70));
    expect(idOf(forged)).not.toBe(idOf(root));
    expectCorrupt(() => open(cipher).lookup(forged, 70), "forged");
    expectCorrupt(() => open(null).lookup(root, 70), "read without the key");
  });

  test("a missing node is damage, not an absent page", () => {
    const { nodes, root } = twoLevels();
    nodes.bytes.delete(idKey(root.nodeId!));
    expectCorrupt(() => nodes.open().lookup(root, 1), "missing");
  });

  test("a leaf where an interior node belongs is refused", () => {
    const { nodes, root } = twoLevels();
    const leaf = [...nodes.open().walk(root)].find((visit) => visit.level === 1)!;
    expectCorrupt(
      () => nodes.open().lookup({ nodeId: leaf.id, levels: 2, pageCount: 70 }, 1),
      "leaf",
    );
    expectCorrupt(() => nodes.open().lookup({ ...root, levels: 1 }, 1), "interior");
  });
});
