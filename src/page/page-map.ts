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
 * R1. Canonical: what a root holds (page count, and the reference of each page) alone determines its node ids. Levels are the
 *     fewest that cover the page count; no node is empty; a root without pages has nodeId null.
 * R2. No entry lies past the page count. A page within it may be absent: SQLite's lock page, or a page never written.
 * R3. `update` changes nothing that exists: it returns the nodes to be stored. The new root may be used once they are
 *     in the source.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { ClockCache } from "./clock-cache.ts";
import { type ChunkHandle, type ChunkHandles, type ChunkReference, idKey } from "./chunk-handle.ts";
import {
  corruptNode,
  decodeNode,
  encodeInterior,
  encodeLeaf,
  isLeaf,
  type LeafNode,
  type LeafPages,
  LEVELS_MAX,
  NODE_FANOUT,
  type NodeChildren,
  nodeId,
  type NodeReference,
  type PageMapNode,
} from "./page-map-node.ts";

export interface PageMapRoot {
  /** 16 bytes; null when no page is present. */
  readonly nodeId: Uint8Array | null;
  readonly levels: number;
  readonly pageCount: number;
}

export const EMPTY_ROOT: PageMapRoot = { nodeId: null, levels: 0, pageCount: 0 };

/** Where nodes are kept: the catalog. */
export interface NodeSource {
  /** The node's bytes, valid until the next call; undefined when there is none, which the page map reports as damage. */
  load(id: Uint8Array): Uint8Array | undefined;
}

export interface PageMapOptions {
  readonly source: NodeSource;
  readonly handles: ChunkHandles;
  readonly cipher: StoreCipher | null;
  /** Decoded nodes kept in memory, at some 5 KiB each; 8192 cover a database of 2 GiB. */
  readonly cachedNodesMax?: number;
}

/** A page's new place; a null chunk makes the page absent. */
export interface PageMapChange {
  readonly pageNumber: number;
  readonly chunk: ChunkHandle | null;
  readonly slot: number;
}

export interface NewNode {
  readonly id: Uint8Array;
  readonly bytes: Uint8Array;
}

export interface PageMapUpdate {
  readonly root: PageMapRoot;
  /** Children before parents. Some may be in the source already. */
  readonly newNodes: NewNode[];
}

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

/** The fewest levels that cover so many pages. */
export function levelsFor(pageCount: number): number {
  let levels = 0;
  for (let covered = 1; covered < pageCount; covered *= NODE_FANOUT) levels++;
  return pageCount === 1 ? 1 : levels;
}

/** Pages covered by a node of each level. */
const SPAN: readonly number[] = Array.from(
  { length: LEVELS_MAX + 1 },
  (_, level) => NODE_FANOUT ** level,
);

/** A part of a tree: a node and its level. */
interface Subtree {
  readonly node: NodeReference | null;
  readonly level: number;
}

interface UpdateRun {
  readonly changes: readonly PageMapChange[];
  readonly pageCount: number;
  /** Entries past the new page count exist and must go. */
  readonly shrinks: boolean;
  readonly newNodes: NewNode[];
}

/** The changes from `start` to `end` that fall into one node, and what was there before. */
interface UpdateStep {
  readonly old: Subtree;
  readonly level: number;
  /** Page index that the node begins with. */
  readonly base: number;
  readonly start: number;
  readonly end: number;
}

interface LeafMemo {
  readonly root: PageMapRoot;
  readonly leafIndex: number;
  readonly leaf: LeafNode;
}

/** Leaves of 1 GiB of pages; what the memo keeps beyond the node cache is bounded by it. */
const MEMO_SIZE = 4096;

export class PageMap {
  readonly #source: NodeSource;
  readonly #handles: ChunkHandles;
  readonly #cipher: StoreCipher | null;
  readonly #nodes: ClockCache<PageMapNode>;
  /** The leaf used last per leaf index modulo its size: most lookups repeat. */
  readonly #memo: (LeafMemo | undefined)[] = Array.from({ length: MEMO_SIZE });
  #lastRoot: PageMapRoot = EMPTY_ROOT;
  #lastRootReference: NodeReference | null = null;

  constructor(options: PageMapOptions) {
    this.#source = options.source;
    this.#handles = options.handles;
    this.#cipher = options.cipher;
    this.#nodes = new ClockCache(options.cachedNodesMax ?? 8192);
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
    let node = this.#load(this.#lastRootReference, root.levels);
    while (!isLeaf(node)) {
      const child = node.children[Math.floor(index / SPAN[node.level - 1]!) % NODE_FANOUT] ?? null;
      if (child === null) return null;
      node = this.#load(child, node.level - 1);
    }
    return node;
  }

  /** A node through the cache. */
  #load(reference: NodeReference, level: number): PageMapNode {
    const cached = this.#nodes.get(reference.key);
    // The same bytes may be asked for at one level only; a damaged parent could ask at another.
    if (cached !== undefined && cached.level === level) return cached;
    const node = this.#loadFresh(reference, level);
    this.#nodes.set(node.key, node);
    return node;
  }

  #loadFresh({ id, key }: NodeReference, level: number): PageMapNode {
    const bytes = this.#source.load(id);
    if (bytes === undefined) throw corruptNode(id, "the catalog does not have it");
    return decodeNode(bytes, { id, key, level, cipher: this.#cipher, handles: this.#handles });
  }

  /**
   * The map after `changes`, which ascend by page number without repetition and lie within `pageCount`. Entries of
   * `root` past `pageCount` are dropped. Nothing is stored; see R3.
   */
  update(root: PageMapRoot, changes: readonly PageMapChange[], pageCount: number): PageMapUpdate {
    checkChanges(changes, pageCount);
    const levels = levelsFor(pageCount);
    const newNodes: NewNode[] = [];
    const run: UpdateRun = { changes, pageCount, shrinks: pageCount < root.pageCount, newNodes };
    let old = subtreeOf(root);
    // A tree that shrank keeps only what is under the first child.
    while (old.node !== null && old.level > levels) old = this.#firstChild(old);
    if (levels === 0) return { root: { nodeId: null, levels: 0, pageCount }, newNodes };
    const node = this.#updateNode(run, {
      old,
      level: levels,
      base: 0,
      start: 0,
      end: changes.length,
    });
    return { root: { nodeId: node?.id ?? null, levels, pageCount }, newNodes };
  }

  #firstChild({ node, level }: Subtree): Subtree {
    if (node === null) return { node, level: level - 1 };
    const loaded = this.#load(node, level);
    return { node: isLeaf(loaded) ? null : (loaded.children[0] ?? null), level: level - 1 };
  }

  #updateNode(run: UpdateRun, step: UpdateStep): NodeReference | null {
    const { old, level, base, start, end } = step;
    const cut = run.shrinks && base + SPAN[level]! > run.pageCount;
    if (start === end && (old.node === null || (!cut && old.level === level))) return old.node;
    return level === 1 ? this.#updateLeaf(run, step) : this.#updateInterior(run, step);
  }

  #updateLeaf(run: UpdateRun, { old, base, start, end }: UpdateStep): NodeReference | null {
    const before = old.node === null ? null : this.#load(old.node, 1);
    const pages: LeafPages =
      before !== null && isLeaf(before)
        ? [...before.pages]
        : Array.from({ length: NODE_FANOUT }, () => null);
    for (let index = start; index < end; index++) {
      const { pageNumber, chunk, slot } = run.changes[index]!;
      pages[pageNumber - 1 - base] = chunk === null ? null : { chunk, slot };
    }
    for (let index = Math.max(0, run.pageCount - base); index < NODE_FANOUT; index++)
      pages[index] = null;
    const bytes = encodeLeaf(pages);
    if (bytes === null) return null;
    return this.#finish(run, old.node, bytes, (id, key) => ({
      level: 1,
      key,
      id,
      pages,
      weight: 1,
      referenced: false,
    }));
  }

  #updateInterior(run: UpdateRun, step: UpdateStep): NodeReference | null {
    const { old, level, base } = step;
    const children = this.#oldChildren(old, level);
    const span = SPAN[level - 1]!;
    let start = step.start;
    for (let index = 0; index < NODE_FANOUT; index++) {
      const childBase = base + index * span;
      let end = start;
      while (end < step.end && run.changes[end]!.pageNumber - 1 < childBase + span) end++;
      const before = children[index]!;
      if (childBase >= run.pageCount) {
        children[index] = NO_SUBTREE;
      } else {
        const node = this.#updateNode(run, {
          old: before,
          level: level - 1,
          base: childBase,
          start,
          end,
        });
        children[index] = { node, level: level - 1 };
      }
      start = end;
    }
    const nodes: NodeChildren = children.map((child) => child.node);
    const bytes = encodeInterior(level, nodes);
    if (bytes === null) return null;
    return this.#finish(run, old.level === level ? old.node : null, bytes, (id, key) => ({
      level,
      key,
      id,
      children: nodes,
      weight: 1,
      referenced: false,
    }));
  }

  /** The 64 children of a node of this level; a tree that grew a level is the first child of a new node. */
  #oldChildren(old: Subtree, level: number): Subtree[] {
    const children: Subtree[] = Array.from({ length: NODE_FANOUT }, () => NO_SUBTREE);
    if (old.node === null) return children;
    if (old.level < level) {
      children[0] = old;
      return children;
    }
    const node = this.#load(old.node, level);
    if (isLeaf(node)) return children;
    return node.children.map((child) =>
      child === null ? NO_SUBTREE : { node: child, level: level - 1 },
    );
  }

  /** Names a node, and notes it as new unless it is what was there before. */
  #finish(
    run: UpdateRun,
    before: NodeReference | null,
    bytes: Uint8Array,
    make: (id: Uint8Array, key: string) => PageMapNode,
  ): NodeReference {
    const id = nodeId(bytes, this.#cipher);
    const key = idKey(id);
    if (before !== null && before.key === key) return before;
    run.newNodes.push({ id, bytes });
    this.#nodes.set(key, make(id, key));
    return { id, key };
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
      const before = this.#leafPages(left.node);
      const after = this.#leafPages(right.node);
      for (let index = 0; index < NODE_FANOUT; index++) {
        const a = before[index] ?? null;
        const b = after[index] ?? null;
        if (a?.chunk.key !== b?.chunk.key || a?.slot !== b?.slot) yield base + index + 1;
      }
      return;
    }
    const lefts = this.#oldChildren(left, level);
    const rights = this.#oldChildren(right, level);
    const span = SPAN[level - 1]!;
    for (let index = 0; index < NODE_FANOUT; index++) {
      yield* this.#diff(lefts[index]!, rights[index]!, level - 1, base + index * span);
    }
  }

  #leafPages(node: NodeReference | null): readonly (ChunkReference | null)[] {
    if (node === null) return [];
    const leaf = this.#load(node, 1);
    return isLeaf(leaf) ? leaf.pages : [];
  }

  /**
   * Every node of a root, parents before children, read from the source and verified, never from the cache. Skips a node and
   * all below it when `enter` says false (it was seen through another root).
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
    const node = this.#loadFresh(reference, level);
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
    return this.#nodes.count;
  }
}

const NO_SUBTREE: Subtree = { node: null, level: 0 };

function subtreeOf(root: PageMapRoot): Subtree {
  const { nodeId: id, levels } = root;
  return { node: id === null ? null : { id, key: idKey(id) }, level: levels };
}

function checkChanges(changes: readonly PageMapChange[], pageCount: number): void {
  let last = 0;
  for (const { pageNumber, chunk, slot } of changes) {
    if (!(pageNumber > last) || pageNumber > pageCount) {
      throw new RangeError(
        `Cannot update page map: page ${pageNumber} after ${last}, of ${pageCount} pages`,
      );
    }
    if (chunk !== null && !(slot >= 0 && slot < 64)) {
      throw new RangeError(`Cannot update page map: page ${pageNumber} has slot ${slot}`);
    }
    last = pageNumber;
  }
}
