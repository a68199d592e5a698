/**
 * Makes the next page map out of one and a set of changes, by copying the paths to the leaves that change; see R1 to R3
 * in page-map.ts. A tree that grows gets the old one as its first child; one that shrinks keeps what is under the first
 * child, cut at the page count.
 */
import type { ChunkHandle } from "./chunk-handle.ts";
import { idKey } from "./chunk-handle.ts";
import { CHUNK_SLOTS_MAX } from "./chunk-format.ts";
import {
  encodeInterior,
  encodeLeaf,
  isLeaf,
  type LeafPages,
  NODE_FANOUT,
  type NodeChildren,
  nodeId,
  type NodeReference,
  type PageMapNode,
} from "./page-map-node.ts";
import {
  levelsFor,
  NO_SUBTREE,
  type PageMapRoot,
  type PageMapTree,
  SPAN,
  type Subtree,
  subtreeOf,
} from "./page-map-tree.ts";

/** What an update changes, leaf by leaf. */
export interface PageMapChanges {
  /** The leaves that change, by index from 0, ascending without repetition. */
  leafIndexes(): Float64Array;
  /** Writes the new places over those that the leaf had. */
  applyTo(leafIndex: number, pages: LeafPages): void;
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

/**
 * New nodes that an update keeps decoded, at some 5 KiB each: those of an import would take more memory than the import
 * itself, and push out what is in use.
 */
const NODES_KEPT_MAX = 1024;

interface UpdateRun {
  readonly tree: PageMapTree;
  readonly changes: PageMapChanges;
  readonly leaves: Float64Array;
  readonly pageCount: number;
  /** Entries past the new page count exist and must go. */
  readonly shrinks: boolean;
  readonly newNodes: NewNode[];
}

/** The changed leaves from `start` to `end` that fall into one node, and what was there before. */
interface UpdateStep {
  readonly old: Subtree;
  readonly level: number;
  /** Page index that the node begins with. */
  readonly base: number;
  readonly start: number;
  readonly end: number;
}

/** See PageMap.update. */
export function updatePageMap(
  tree: PageMapTree,
  root: PageMapRoot,
  changes: PageMapChanges,
  pageCount: number,
): PageMapUpdate {
  const leaves = changes.leafIndexes();
  const last = leaves.at(-1) ?? -1;
  if (last * NODE_FANOUT >= pageCount)
    throw new RangeError(`Cannot update page map: leaf ${last} of ${pageCount} pages`);
  const levels = levelsFor(pageCount);
  const newNodes: NewNode[] = [];
  const run: UpdateRun = {
    tree,
    changes,
    leaves,
    pageCount,
    shrinks: pageCount < root.pageCount,
    newNodes,
  };
  let old = subtreeOf(root);
  // A tree that shrank keeps only what is under the first child.
  while (old.node !== null && old.level > levels) old = firstChild(tree, old);
  if (levels === 0) return { root: { nodeId: null, levels: 0, pageCount }, newNodes };
  const node = updateNode(run, {
    old,
    level: levels,
    base: 0,
    start: 0,
    end: leaves.length,
  });
  return { root: { nodeId: node?.id ?? null, levels, pageCount }, newNodes };
}

function firstChild(tree: PageMapTree, { node, level }: Subtree): Subtree {
  if (node === null) return { node, level: level - 1 };
  const loaded = tree.load(node, level);
  return { node: isLeaf(loaded) ? null : (loaded.children[0] ?? null), level: level - 1 };
}

function updateNode(run: UpdateRun, step: UpdateStep): NodeReference | null {
  const { old, level, base, start, end } = step;
  const cut = run.shrinks && base + SPAN[level]! > run.pageCount;
  if (start === end && (old.node === null || (!cut && old.level === level))) return old.node;
  return level === 1 ? updateLeaf(run, step) : updateInterior(run, step);
}

function updateLeaf(run: UpdateRun, { old, base, start, end }: UpdateStep): NodeReference | null {
  const before = old.node === null ? null : run.tree.load(old.node, 1);
  const pages: LeafPages =
    before !== null && isLeaf(before)
      ? [...before.pages]
      : Array.from({ length: NODE_FANOUT }, () => null);
  if (start < end) run.changes.applyTo(run.leaves[start]!, pages);
  for (let index = Math.max(0, run.pageCount - base); index < NODE_FANOUT; index++)
    pages[index] = null;
  const bytes = encodeLeaf(pages);
  if (bytes === null) return null;
  return finish(run, old.node, bytes, (id, key) => ({
    level: 1,
    key,
    id,
    pages,
    weight: 1,
    referenced: false,
  }));
}

function updateInterior(run: UpdateRun, step: UpdateStep): NodeReference | null {
  const { old, level, base } = step;
  const children = run.tree.children(old, level);
  const span = SPAN[level - 1]!;
  let start = step.start;
  for (let index = 0; index < NODE_FANOUT; index++) {
    const childBase = base + index * span;
    let end = start;
    while (end < step.end && run.leaves[end]! * NODE_FANOUT < childBase + span) end++;
    const before = children[index]!;
    if (childBase >= run.pageCount) {
      children[index] = NO_SUBTREE;
    } else {
      const node = updateNode(run, {
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
  return finish(run, old.level === level ? old.node : null, bytes, (id, key) => ({
    level,
    key,
    id,
    children: nodes,
    weight: 1,
    referenced: false,
  }));
}

/** Names a node, and notes it as new unless it is what was there before. */
function finish(
  run: UpdateRun,
  before: NodeReference | null,
  bytes: Uint8Array,
  make: (id: Uint8Array, key: string) => PageMapNode,
): NodeReference {
  const id = nodeId(bytes, run.tree.cipher);
  const key = idKey(id);
  if (before !== null && before.key === key) return before;
  run.newNodes.push({ id, bytes });
  if (run.newNodes.length <= NODES_KEPT_MAX) run.tree.keep(make(id, key));
  return { id, key };
}

/** The changes of a list that ascends by page number without repetition and lies within `pageCount`. */
export function pageMapChanges(
  changes: readonly PageMapChange[],
  pageCount: number,
): PageMapChanges {
  checkChanges(changes, pageCount);
  const leaves = new Map<number, PageMapChange[]>();
  for (const change of changes) {
    const index = Math.floor((change.pageNumber - 1) / NODE_FANOUT);
    const leaf = leaves.get(index);
    if (leaf === undefined) leaves.set(index, [change]);
    else leaf.push(change);
  }
  return {
    leafIndexes: () => Float64Array.from(leaves.keys()),
    applyTo(leafIndex, pages) {
      for (const { pageNumber, chunk, slot } of leaves.get(leafIndex) ?? [])
        pages[(pageNumber - 1) % NODE_FANOUT] = chunk === null ? null : { chunk, slot };
    },
  };
}

function checkChanges(changes: readonly PageMapChange[], pageCount: number): void {
  let last = 0;
  for (const { pageNumber, chunk, slot } of changes) {
    if (!(pageNumber > last) || pageNumber > pageCount) {
      throw new RangeError(
        `Cannot update page map: page ${pageNumber} after ${last}, of ${pageCount} pages`,
      );
    }
    if (chunk !== null && !(slot >= 0 && slot < CHUNK_SLOTS_MAX)) {
      throw new RangeError(`Cannot update page map: page ${pageNumber} has slot ${slot}`);
    }
    last = pageNumber;
  }
}
