/**
 * The nodes of page maps in memory: loaded from the catalog, verified, and kept decoded up to a limit. What reads a page
 * map (page-map.ts) and what updates one (page-map-update.ts) both walk the tree through here.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { type ChunkHandles, type ChunkReference, idKey } from "./chunk-handle.ts";
import { ClockCache } from "./clock-cache.ts";
import {
  corruptNode,
  decodeNode,
  isLeaf,
  LEVELS_MAX,
  NODE_FANOUT,
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

/** The fewest levels that cover so many pages. */
export function levelsFor(pageCount: number): number {
  let levels = 0;
  for (let covered = 1; covered < pageCount; covered *= NODE_FANOUT) levels++;
  return pageCount === 1 ? 1 : levels;
}

/** Pages covered by a node of each level. */
export const SPAN: readonly number[] = Array.from(
  { length: LEVELS_MAX + 1 },
  (_, level) => NODE_FANOUT ** level,
);

/** A part of a tree: a node and its level. */
export interface Subtree {
  readonly node: NodeReference | null;
  readonly level: number;
}

export const NO_SUBTREE: Subtree = { node: null, level: 0 };

export function subtreeOf(root: PageMapRoot): Subtree {
  const { nodeId: id, levels } = root;
  return { node: id === null ? null : { id, key: idKey(id) }, level: levels };
}

export class PageMapTree {
  readonly cipher: StoreCipher | null;
  readonly #source: NodeSource;
  readonly #handles: ChunkHandles;
  readonly #nodes: ClockCache<PageMapNode>;

  constructor(options: PageMapOptions) {
    this.cipher = options.cipher;
    this.#source = options.source;
    this.#handles = options.handles;
    this.#nodes = new ClockCache(options.cachedNodesMax ?? 8192);
  }

  get cachedNodes(): number {
    return this.#nodes.count;
  }

  /** A node through the cache. */
  load(reference: NodeReference, level: number): PageMapNode {
    const cached = this.#nodes.get(reference.key);
    // The same bytes may be asked for at one level only; a damaged parent could ask at another.
    if (cached !== undefined && cached.level === level) return cached;
    const node = this.loadFresh(reference, level);
    this.#nodes.set(node.key, node);
    return node;
  }

  /** A node from the source, past the cache. */
  loadFresh({ id, key }: NodeReference, level: number): PageMapNode {
    const bytes = this.#source.load(id);
    if (bytes === undefined) throw corruptNode(id, "the catalog does not have it");
    return decodeNode(bytes, { id, key, level, cipher: this.cipher, handles: this.#handles });
  }

  /** Keeps a node that was just made. */
  keep(node: PageMapNode): void {
    this.#nodes.set(node.key, node);
  }

  /** The 64 children of a node of this level; a tree that grew a level is the first child of a new node. */
  children(subtree: Subtree, level: number): Subtree[] {
    const children: Subtree[] = Array.from({ length: NODE_FANOUT }, () => NO_SUBTREE);
    if (subtree.node === null) return children;
    if (subtree.level < level) {
      children[0] = subtree;
      return children;
    }
    const node = this.load(subtree.node, level);
    if (isLeaf(node)) return children;
    return node.children.map((child) =>
      child === null ? NO_SUBTREE : { node: child, level: level - 1 },
    );
  }

  /** The pages of a leaf, empty where there is none. */
  leafPages(node: NodeReference | null): readonly (ChunkReference | null)[] {
    if (node === null) return [];
    const leaf = this.load(node, 1);
    return isLeaf(leaf) ? leaf.pages : [];
  }
}
