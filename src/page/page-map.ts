/**
 * The page map: a persistent radix tree from page number to (chunk, slot), one root per checkpointed snapshot. Fan-out
 * 64 at each level; page p has index p - 1, a leaf (level 1) covers 64 pages, a node of level n covers 64^n. Nodes are
 * immutable and content-addressed (page-map-node.ts); two snapshots share all nodes but those on the paths that
 * changed, and differ exactly where node ids differ.
 *
 *   root { nodeId, levels 3, pageCount 5000 }
 *     level 3  [0]------------------- [1]                     64^3 pages each, child n covers 64^2
 *     level 2  [0] [1] ... [63]       [0] ... [14]
 *     level 1  pages 1-64 65-128 ...                          leaf: 64 x (chunk, slot)
 *
 * Invariants
 * R1. Canonical: what a root holds (page count, and the reference of each page) alone determines its node ids. Levels
 *     are the fewest that cover the page count; no node is empty; a root without pages has nodeId null.
 * R2. No entry lies past the page count. A page within it may be absent: SQLite's lock page, or a page never written.
 * R3. `update` changes nothing that exists: it returns the nodes to be stored. The new root may be used once they are
 *     in the source.
 */
import { type ChunkReference, idKey } from "./chunk-handle.ts";
import { isLeaf, type LeafNode, NODE_FANOUT, type NodeReference } from "./page-map-node.ts";
import {
  EMPTY_ROOT,
  type PageMapOptions,
  type PageMapRoot,
  PageMapTree,
  SPAN,
  type Subtree,
  subtreeOf,
} from "./page-map-tree.ts";
import {
  type PageMapChange,
  type PageMapChanges,
  pageMapChanges,
  type PageMapUpdate,
  updatePageMap,
} from "./page-map-update.ts";

export { EMPTY_ROOT, levelsFor } from "./page-map-tree.ts";
export type { PageMapOptions, PageMapRoot } from "./page-map-tree.ts";
export type { PageMapChange, PageMapUpdate } from "./page-map-update.ts";

/** A node met by `walk`. */
export interface PageMapVisit {
  readonly id: Uint8Array;
  readonly key: string;
  readonly level: number;
  /** The first page that the node covers. */
  readonly firstPage: number;
  /** Of a leaf: its 64 pages, from firstPage on; null of an interior node. */
  readonly pages: readonly (ChunkReference | null)[] | null;
}

interface LeafMemo {
  readonly root: PageMapRoot;
  readonly leafIndex: number;
  readonly leaf: LeafNode;
}

/** Leaves of 1 GiB of pages; what the memo keeps beyond the node cache is bounded by it. */
const MEMO_SIZE = 4096;

export class PageMap {
  readonly #tree: PageMapTree;
  /** The leaf used last per leaf index modulo its size: most lookups repeat. */
  readonly #memo: (LeafMemo | undefined)[] = Array.from({ length: MEMO_SIZE });
  #lastRoot: PageMapRoot = EMPTY_ROOT;
  #lastRootReference: NodeReference | null = null;

  constructor(options: PageMapOptions) {
    this.#tree = new PageMapTree(options);
  }

  /** Null when the page is absent or past the page count. Throws CORRUPT_NODE. */
  lookup(root: PageMapRoot, pageNumber: number): ChunkReference | null {
    if (pageNumber > root.pageCount || pageNumber < 1) return null;
    const index = pageNumber - 1;
    const leafIndex = Math.floor(index / NODE_FANOUT);
    const memo = this.#memo[leafIndex % MEMO_SIZE];
    if (memo !== undefined && memo.root === root && memo.leafIndex === leafIndex) {
      return memo.leaf.pages[index % NODE_FANOUT]!;
    }
    const leaf = this.#findLeaf(root, index);
    if (leaf === null) return null;
    leaf.referenced = true;
    this.#memo[leafIndex % MEMO_SIZE] = { root, leafIndex, leaf };
    return leaf.pages[index % NODE_FANOUT]!;
  }

  #findLeaf(root: PageMapRoot, index: number): LeafNode | null {
    if (root !== this.#lastRoot) {
      this.#lastRootReference = subtreeOf(root).node;
      this.#lastRoot = root;
    }
    if (this.#lastRootReference === null) return null;
    let node = this.#tree.load(this.#lastRootReference, root.levels);
    while (!isLeaf(node)) {
      const child = node.children[Math.floor(index / SPAN[node.level - 1]!) % NODE_FANOUT] ?? null;
      if (child === null) return null;
      node = this.#tree.load(child, node.level - 1);
    }
    return node;
  }

  /**
   * The map after `changes`, which lie within `pageCount`; a list ascends by page number without repetition. Entries of
   * `root` past `pageCount` are dropped. Nothing is stored; see R3.
   */
  update(
    root: PageMapRoot,
    changes: PageMapChanges | readonly PageMapChange[],
    pageCount: number,
  ): PageMapUpdate {
    const leaves = "length" in changes ? pageMapChanges(changes, pageCount) : changes;
    return updatePageMap(this.#tree, root, leaves, pageCount);
  }

  /**
   * The numbers of the pages whose reference differs, ascending, also those that only one side has. Reads only nodes
   * on paths that differ. Pages with other references may still have equal bytes.
   */
  *diff(left: PageMapRoot, right: PageMapRoot): Generator<number, void, undefined> {
    yield* this.#diff(subtreeOf(left), subtreeOf(right), Math.max(left.levels, right.levels), 0);
  }

  *#diff(
    left: Subtree,
    right: Subtree,
    level: number,
    base: number,
  ): Generator<number, void, undefined> {
    if (left.node === null && right.node === null) return;
    if (left.node?.key === right.node?.key) return;
    if (level === 1) {
      const before = this.#tree.leafPages(left.node);
      const after = this.#tree.leafPages(right.node);
      for (let index = 0; index < NODE_FANOUT; index++) {
        const a = before[index] ?? null;
        const b = after[index] ?? null;
        if (a?.chunk.key !== b?.chunk.key || a?.slot !== b?.slot) yield base + index + 1;
      }
      return;
    }
    const lefts = this.#tree.children(left, level);
    const rights = this.#tree.children(right, level);
    const span = SPAN[level - 1]!;
    for (let index = 0; index < NODE_FANOUT; index++) {
      yield* this.#diff(lefts[index]!, rights[index]!, level - 1, base + index * span);
    }
  }

  /**
   * Every node of a root, parents before children, read from the source and verified, never from the cache. Skips a
   * node and all below it when `enter` says false (it was seen through another root).
   */
  *walk(
    root: PageMapRoot,
    enter: (key: string) => boolean = () => true,
  ): Generator<PageMapVisit, void, undefined> {
    if (root.nodeId === null) return;
    yield* this.#walk({ id: root.nodeId, key: idKey(root.nodeId) }, root.levels, 0, enter);
  }

  *#walk(
    reference: NodeReference,
    level: number,
    base: number,
    enter: (key: string) => boolean,
  ): Generator<PageMapVisit, void, undefined> {
    if (!enter(reference.key)) return;
    const node = this.#tree.loadFresh(reference, level);
    const { id, key } = node;
    const pages = isLeaf(node) ? node.pages : null;
    yield { id, key, level, firstPage: base + 1, pages };
    if (isLeaf(node)) return;
    const span = SPAN[level - 1]!;
    for (const [index, child] of node.children.entries()) {
      if (child !== null) yield* this.#walk(child, level - 1, base + index * span, enter);
    }
  }

  get cachedNodes(): number {
    return this.#tree.cachedNodes;
  }
}
