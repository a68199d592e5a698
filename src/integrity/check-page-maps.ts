/**
 * Checks page maps from their roots down to the slots that they refer to.
 *
 * Y1. Each node is read once, however many roots share it; what is wrong below it is remembered with it, so that every root
 *     above learns of it.
 * Y2. A page map has an entry for every page up to its page count but SQLite's lock page, and none past it.
 */
import type { Catalog } from "../catalog/catalog.ts";
import type { StoreCipher } from "../encryption/cipher.ts";
import type { ChunkHandle, ChunkHandles } from "../page/chunk-handle.ts";
import { idKey } from "../page/chunk-handle.ts";
import {
  corruptNode,
  decodeNode,
  isLeaf,
  type NodeReference,
  type PageMapNode,
} from "../page/page-map-node.ts";
import { levelsFor } from "../page/page-map.ts";
import { lockPageNumber } from "../transaction/snapshot.ts";
import type { Findings, Problem } from "./report.ts";
import type { RootUse } from "./revision-index.ts";

/** What knows of chunks whether they hold a page: by reading them, or from what was found before. */
export interface SlotChecker {
  /** Null when the slot holds a page of this size. */
  slotProblem(chunk: ChunkHandle, slot: number, pageSize: number): Problem | null;
}

export interface PageMapCheckParts {
  readonly catalog: Catalog;
  readonly handles: ChunkHandles;
  readonly cipher: StoreCipher | null;
  readonly chunks: SlotChecker;
  readonly findings: Findings;
  /** Whether the catalog still has the root: retention may drop it, and its nodes after it, while the check runs. */
  readonly isCurrent: (use: RootUse) => boolean;
}

/** What is below a node. */
interface Below {
  readonly problems: ReadonlySet<Problem>;
  /** Entries. */
  readonly pageCount: number;
  /** The last entry, counted from 1 at the node's first page; 0 when there is none. */
  readonly lastPage: number;
}

const NOTHING_WRONG: ReadonlySet<Problem> = new Set();
const FANOUT = 64;

export class PageMapChecker {
  readonly #parts: PageMapCheckParts;
  readonly #below: Map<string, Below> = new Map();
  /** Met below a root that has gone meanwhile: no damage unless another root meets them too. */
  readonly #doubtful: Set<Problem> = new Set();

  constructor(parts: PageMapCheckParts) {
    this.#parts = parts;
  }

  /** Yields after every node that it reads. Problems get the revisions that read this root. */
  *check(use: RootUse): Generator<void, void, undefined> {
    const { root, pageSize, revisions } = use;
    const { findings } = this.#parts;
    findings.counts.roots++;
    const { nodeId: id, levels, pageCount } = root;
    const below: Below =
      id === null
        ? { problems: NOTHING_WRONG, pageCount: 0, lastPage: 0 }
        : yield* this.#visit({ id, key: idKey(id) }, levels, pageSize);
    if (below.problems.size > 0 && !this.#parts.isCurrent(use)) {
      for (const problem of below.problems) this.#doubtful.add(problem);
      return;
    }
    for (const problem of below.problems)
      for (const revision of revisions) problem.revisions.add(revision);
    if (below.problems.size > 0) return;
    const expected = pageCount - (lockPageNumber(pageSize) <= pageCount ? 1 : 0);
    if (
      below.pageCount === expected &&
      below.lastPage <= pageCount &&
      levels === levelsFor(pageCount)
    )
      return;
    const name = id === null ? "without nodes" : Buffer.from(id).toString("hex");
    findings.add(
      "CORRUPT_NODE",
      `Cannot read page map ${name}: it has ${below.pageCount} entries up to page ${below.lastPage} at ${levels} levels for ${pageCount} pages`,
      revisions,
    );
  }

  /** After the last root. */
  finish(): void {
    for (const problem of this.#doubtful)
      if (problem.revisions.size === 0) this.#parts.findings.retract(problem);
  }

  *#visit(
    reference: NodeReference,
    level: number,
    pageSize: number,
  ): Generator<void, Below, undefined> {
    // The level is part of it: a damaged parent may ask for a node at another one.
    const key = `${level} ${reference.key}`;
    const known = this.#below.get(key);
    if (known !== undefined) return known;
    const below = yield* this.#read(reference, level, pageSize);
    this.#below.set(key, below);
    return below;
  }

  *#read(
    reference: NodeReference,
    level: number,
    pageSize: number,
  ): Generator<void, Below, undefined> {
    const { findings } = this.#parts;
    let node: PageMapNode;
    try {
      node = this.#load(reference, level);
    } catch (error) {
      const problem = findings.addDamage({ kind: "node", id: reference.id }, error);
      return { problems: new Set([problem]), pageCount: 0, lastPage: 0 };
    }
    findings.counts.nodes++;
    const problems = new Set<Problem>();
    let pageCount = 0;
    let lastPage = 0;
    if (isLeaf(node)) {
      for (const [index, page] of node.pages.entries()) {
        if (page === null) continue;
        pageCount++;
        lastPage = index + 1;
        const problem = this.#parts.chunks.slotProblem(page.chunk, page.slot, pageSize);
        if (problem !== null) problems.add(problem);
      }
      yield;
    } else {
      const span = FANOUT ** (level - 1);
      for (const [index, child] of node.children.entries()) {
        if (child === null) continue;
        const below = yield* this.#visit(child, level - 1, pageSize);
        pageCount += below.pageCount;
        if (below.lastPage > 0) lastPage = index * span + below.lastPage;
        for (const problem of below.problems) problems.add(problem);
      }
    }
    return { problems: problems.size === 0 ? NOTHING_WRONG : problems, pageCount, lastPage };
  }

  #load({ id, key }: NodeReference, level: number): PageMapNode {
    const { catalog, handles, cipher } = this.#parts;
    const bytes = catalog.node(id);
    if (bytes === undefined) throw corruptNode(id, "the catalog does not have it");
    return decodeNode(bytes, { id, key, level, cipher, handles });
  }
}
