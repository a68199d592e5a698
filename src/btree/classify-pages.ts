/**
 * What each page is that a transaction wrote: a walk over the pages that it accessed, from page 1, from the root pages that
 * sqlite_schema names, and along the freelist. SQLite reads a parent before its child and a page before what follows it in a
 * chain, so what a transaction wrote is reached that way. What is not reached is unknown, and never guessed at. (With
 * auto_vacuum SQLite also reaches pages by way of the pointer map.)
 *
 *   page 1 --32--> trunk --> trunk ...            free-trunk, with the free-leaf pages that they name
 *   page 1 (root of sqlite_schema), other roots   table-interior or index-interior ... table-leaf or index-leaf
 *   cell of a leaf or an index interior page      overflow --> overflow ... 0
 *   fixed places                                  pointer-map, lock
 *
 * C1. A page has a role only if exactly one page, root or place claims it, and if what it holds agrees with the claim:
 *     kind, bounds, sums, length of the chain.
 * C2. Damage that was met is in `unknown`, whether the page was written or not. With `unknown` empty every page that
 *     was written has its role, and so has every page that is new.
 * C3. Every page is claimed at most once, so that any pages at all are walked in a time that grows with their bytes.
 * C4. A new page (behind the snapshot's last one) is named only by pages that the transaction wrote: anything else is damage.
 *
 * A free leaf that is new may not have been written: SQLite does not write pages that nobody will read. Clean leaves are
 * looked into only if a page is still unknown without them: SQLite writes to an overflow page alone when a blob is
 * changed in place. A transaction that reads a lot and writes little costs what it wrote.
 */
import type { AccessedPages } from "./accessed-pages.ts";
import { btreePageKind, pointerAt, scanBtreePage, PagePointers } from "./btree-page.ts";
import type { BtreePageKind } from "./btree-page.ts";
import {
  fileLayout,
  isAllocatable,
  readUint32,
  FREELIST_COUNT_OFFSET,
  FREELIST_OFFSET,
  type FileLayout,
} from "./file-layout.ts";
import { schemaRoots, type SchemaRoots } from "./schema-roots.ts";

export type PageKind =
  | BtreePageKind
  | "overflow"
  | "free-trunk"
  | "free-leaf"
  | "pointer-map"
  | "lock";

export interface PageRole {
  readonly kind: PageKind;
  /** Of the b-tree that it belongs to; 0: none. */
  readonly root: number;
}

export interface PageChanges {
  /** The pages that the transaction wrote. Those behind `pageCount` were cut off again, and are passed over. */
  readonly dirty: Iterable<number>;
  /** Pages of the snapshot; 0 for the empty database. */
  readonly snapshotPageCount: number;
  /** Pages of the end state. */
  readonly pageCount: number;
  /**
   * The b-trees there are, if they are known already: as of the snapshot, when the transaction did not change the schema.
   * By default they are read from accessed pages, which do not hold a larger schema that SQLite knew from before.
   */
  readonly schema?: SchemaRoots;
}

export interface Classification {
  /** Of the pages that were reached: all dirty and new ones, and most that were only read. */
  readonly roles: ReadonlyMap<number, PageRole>;
  /** Ascending: dirty or new pages that cannot be classified, and pages that are damaged. */
  readonly unknown: readonly number[];
}

const FREE_TRUNK: PageRole = { kind: "free-trunk", root: 0 };
const FREE_LEAF: PageRole = { kind: "free-leaf", root: 0 };
const POINTER_MAP: PageRole = { kind: "pointer-map", root: 0 };
const LOCK: PageRole = { kind: "lock", root: 0 };

export function classifyPages(pages: AccessedPages, changes: PageChanges): Classification {
  const dirty = new Set<number>();
  for (const number of changes.dirty) if (number <= changes.pageCount) dirty.add(number);
  const pageOne = pages.page(1);
  const layout = pageOne === null ? null : fileLayout(pageOne, pages.pageSize);
  if (pageOne === null || layout === null) {
    dirty.add(1);
    return { roles: new Map(), unknown: [...dirty].sort((left, right) => left - right) };
  }
  return new PageWalk(pages, { layout, pageOne, dirty, changes }).run();
}

/** The name of the table or index that a page belongs to; null when it cannot be told, or it belongs to none. */
export function tableOfPage(
  pages: AccessedPages,
  number: number,
  changes: Omit<PageChanges, "dirty">,
): string | null {
  const schema = changes.schema ?? schemaRoots(pages);
  const { roles, unknown } = classifyPages(pages, { ...changes, schema, dirty: [number] });
  if (unknown.includes(number)) return null;
  return schema.roots.get(roles.get(number)?.root ?? 0)?.name ?? null;
}

interface WalkInput {
  readonly layout: FileLayout;
  readonly pageOne: Uint8Array;
  readonly dirty: ReadonlySet<number>;
  readonly changes: PageChanges;
}

interface OpenPage {
  readonly number: number;
  readonly page: Uint8Array;
  readonly role: PageRole;
}

class PageWalk {
  readonly #pages: AccessedPages;
  readonly #layout: FileLayout;
  readonly #pageOne: Uint8Array;
  readonly #dirty: ReadonlySet<number>;
  readonly #snapshotPageCount: number;
  readonly #pageCount: number;
  readonly #schema: SchemaRoots;
  readonly #pointers: PagePointers;
  readonly #roles = new Map<number, PageRole>();
  readonly #damaged = new Set<number>();
  readonly #open: OpenPage[] = [];
  readonly #cleanLeaves: OpenPage[] = [];

  constructor(pages: AccessedPages, { layout, pageOne, dirty, changes }: WalkInput) {
    this.#pages = pages;
    this.#layout = layout;
    this.#pageOne = pageOne;
    this.#dirty = dirty;
    this.#snapshotPageCount = changes.snapshotPageCount;
    this.#pageCount = changes.pageCount;
    this.#schema = changes.schema ?? schemaRoots(pages);
    this.#pointers = new PagePointers(layout);
  }

  run(): Classification {
    for (const number of this.#schema.damaged) this.#damaged.add(number);
    this.#walkFreelist();
    for (const root of this.#schema.roots.keys()) this.#claimRoot(root);
    for (let page = this.#open.pop(); page !== undefined; page = this.#open.pop()) this.#scan(page);
    this.#placeFixed();
    if (this.#missing().length > 0) for (const leaf of this.#cleanLeaves) this.#scan(leaf);
    const unknown = new Set([...this.#damaged, ...this.#missing()]);
    for (const number of unknown) this.#roles.delete(number);
    return { roles: this.#roles, unknown: [...unknown].sort((left, right) => left - right) };
  }

  /** Dirty and new pages without a role. */
  #missing(): number[] {
    const missing: number[] = [];
    for (const number of this.#dirty) if (!this.#roles.has(number)) missing.push(number);
    for (let number = this.#snapshotPageCount + 1; number <= this.#pageCount; number++)
      if (!this.#roles.has(number)) missing.push(number);
    return missing;
  }

  #placeFixed(): void {
    for (const number of this.#dirty) this.#placePage(number);
    for (let number = this.#snapshotPageCount + 1; number <= this.#pageCount; number++)
      this.#placePage(number);
  }

  #placePage(number: number): void {
    if (isAllocatable(this.#layout, number)) return;
    this.#roles.set(number, number === this.#layout.lockPage ? LOCK : POINTER_MAP);
  }

  #claimRoot(root: number): void {
    const type = this.#schema.roots.get(root)!.type;
    if (root <= this.#pageCount && isAllocatable(this.#layout, root))
      this.#claimBtreePage(root, root, type === "index" ? "index" : null);
    else this.#damaged.add(1);
  }

  /** `family`: what its kind must begin with; null: any, as a table without rowid is a b-tree of the index kind. */
  #claimBtreePage(number: number, root: number, family: "table" | "index" | null): void {
    const page = this.#readClaimed(number);
    if (page === null) return;
    const kind = btreePageKind(page, number);
    if (kind === null || (family !== null && !kind.startsWith(family))) {
      this.#damaged.add(number);
      return;
    }
    const role: PageRole = { kind, root };
    this.#roles.set(number, role);
    const isClean = !this.#dirty.has(number);
    if (isClean && kind.endsWith("leaf")) this.#cleanLeaves.push({ number, page, role });
    else this.#open.push({ number, page, role });
  }

  /** null: not accessed, or claimed before, or new and never written. */
  #readClaimed(number: number): Uint8Array | null {
    const page = this.#pages.page(number);
    const isLost = number > this.#snapshotPageCount && !this.#dirty.has(number);
    if (page === null && !isLost) return null;
    if (page !== null && !isLost && !this.#roles.has(number)) return page;
    this.#damaged.add(number);
    return null;
  }

  #scan({ number, page, role }: OpenPage): void {
    const pointers = this.#pointers;
    if (!scanBtreePage(this.#layout, { page, number, pointers })) {
      this.#damaged.add(number);
      return;
    }
    const family = role.kind.startsWith("table") ? "table" : "index";
    for (let index = 0; index < pointers.count; index++) {
      const target = pointerAt(page, pointers, index);
      const chainLength = pointers.chainLengths[index]!;
      if (!this.#mayName(number, target)) this.#damaged.add(number);
      else if (chainLength === 0) this.#claimBtreePage(target, role.root, family);
      else this.#claimChain(number, { first: target, length: chainLength, root: role.root });
    }
  }

  /** Whether the page `holder` may hold this page number. */
  #mayName(holder: number, target: number): boolean {
    if (target < 2 || target > this.#pageCount || !isAllocatable(this.#layout, target))
      return false;
    return target <= this.#snapshotPageCount || this.#dirty.has(holder);
  }

  #claimChain(cellPage: number, chain: { first: number; length: number; root: number }): void {
    const role: PageRole = { kind: "overflow", root: chain.root };
    let holder = cellPage;
    let number = chain.first;
    for (let left = chain.length; left > 0; left--) {
      if (!this.#mayName(holder, number)) {
        this.#damaged.add(holder);
        return;
      }
      const page = this.#readClaimed(number);
      if (page === null) return;
      this.#roles.set(number, role);
      holder = number;
      number = readUint32(page, 0);
    }
    if (number !== 0) this.#damaged.add(holder);
  }

  #walkFreelist(): void {
    let holder = 1;
    let found = 0;
    let trunk = readUint32(this.#pageOne, FREELIST_OFFSET);
    while (trunk !== 0) {
      if (!this.#mayName(holder, trunk)) {
        this.#damaged.add(holder);
        return;
      }
      const page = this.#readClaimed(trunk);
      if (page === null) return;
      this.#roles.set(trunk, FREE_TRUNK);
      const leafCount = readUint32(page, 4);
      if (leafCount > this.#layout.usableSize / 4 - 2) {
        this.#damaged.add(trunk);
        return;
      }
      for (let index = 0; index < leafCount; index++)
        this.#claimFreeLeaf(trunk, readUint32(page, 8 + 4 * index));
      found += 1 + leafCount;
      holder = trunk;
      trunk = readUint32(page, 0);
    }
    if (found !== readUint32(this.#pageOne, FREELIST_COUNT_OFFSET)) this.#damaged.add(1);
  }

  #claimFreeLeaf(trunk: number, leaf: number): void {
    if (!this.#mayName(trunk, leaf)) this.#damaged.add(trunk);
    else if (this.#roles.has(leaf)) this.#damaged.add(leaf);
    else if (leaf > this.#snapshotPageCount || this.#pages.page(leaf) !== null)
      this.#roles.set(leaf, FREE_LEAF);
  }
}
