/**
 * Finds damage in an lmdb file without lmdb, which trusts its pages: one wrong offset in them ends the process (SIGSEGV,
 * SIGBUS). Walks from the meta page in force through the tree of the entries and the tree of the free pages. The formats
 * are those of the lmdb that the npm package ships; little-endian; the meta page's first fields are in lmdb-file.ts.
 *
 *   meta page: offset 48 the free tree, 96 the main tree, 144 last page u64, 152 transaction u64
 *   tree:      +4 flags u16, +6 depth u16, +8 interior pages u64, +16 leaf pages u64, +24 overflow pages u64,
 *              +32 entries u64, +40 root page u64 (all ones: no page)
 *   page:      0 its number u64, 8 transaction u64, 18 flags u16 (1 interior, 2 leaf, 4 overflow),
 *              20 lower u16, 22 upper u16 (an overflow run: 20 its pages u32), 24 offsets of the nodes u16...
 *              lower, upper and the offsets count from 24; nodes fill the page's end, from upper on, without gaps
 *   leaf node: 0 value size u32, 4 flags u16 (1: the value is in overflow pages), 6 key size u16, 8 key, value
 *              the value of such a node is: overflow page u64, transaction u64, pages u64
 *   interior node: 0 child page, 48 bits, 6 key size u16, 8 key (the first key of a page counts as minus infinity)
 *   free list (a value of the free tree, its key the transaction): words i64; 0 the number of words that follow,
 *              then page numbers, each preceded by minus its count if it begins a run; 0 means nothing
 *
 * LP1. Every page in use has its own number, a transaction not after the meta page's, the flags of its place, and is
 *      met once; no free page is in use. All lie within the last page and within the file.
 * LP2. Every node lies within its page; the nodes take exactly the bytes from upper to the page's end.
 * LP3. Keys ascend, within the bounds that the parents set.
 * LP4. Depth, and the number of entries and pages of the main tree, are those of the meta page.
 * LP5. Values are not covered by any of this: rows are decoded, and chunks hashed, above.
 */
import type { Storage, StorageFile } from "../storage/storage.ts";

const HEADER_SIZE = 24;
const NODE_HEADER_SIZE = 8;
const TREE_SIZE = 48;
const OVERFLOW_VALUE_SIZE = 24;
const FREE_TREE = 48;
const MAIN_TREE = 96;
const LAST_PAGE = 144;
const TRANSACTION = 152;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
/** lmdb's cursors hold no more. */
const DEPTH_MAX = 32;
const INTERIOR = 1;
const LEAF = 2;
const OVERFLOW = 4;
const META = 8;
const IN_OVERFLOW = 1;
/** A flag of the environment, kept with the flags of the free tree; lmdb ends the process when it finds it unexpected. */
const ENCRYPTED = 0x2000;
/** Those flags of a tree that change how its keys and values are read. */
const TREE_FLAGS = 0x7e;
const INTEGER_KEY = 0x08;
/** Files up to this size are read at once. */
const WHOLE_FILE_MAX = 8 * 1024 * 1024;

export interface LmdbWalkOptions {
  /** Levels of each tree that are looked at; the checks that need all of them (LP4, free pages) are left out. */
  readonly levels?: number;
}

interface Tree {
  readonly name: "main" | "free";
  readonly depth: number;
  readonly interiorPages: bigint;
  readonly leafPages: bigint;
  readonly overflowPages: bigint;
  readonly entries: bigint;
  readonly root: bigint;
}

interface Slice {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

interface Page {
  readonly number: number;
  readonly bytes: Buffer;
  readonly isLeaf: boolean;
  readonly count: number;
}

interface Bounds {
  readonly low: Slice | null;
  readonly high: Slice | null;
}

class Damage extends Error {}

/**
 * Says what is damaged, or null. A missing or empty file is undamaged. The pages of both meta pages must have been found
 * plausible before (page size, magic), as prepareLmdbFile does; only their trees are checked here.
 */
export function findLmdbDamage(
  storage: Storage,
  path: string,
  options: LmdbWalkOptions = {},
): string | null {
  if (!storage.existsSync(path)) return null;
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    if (file.sizeSync() === 0) return null;
    new Walk(file, options.levels ?? DEPTH_MAX).run();
    return null;
  } catch (error) {
    if (error instanceof Damage) return error.message;
    throw error;
  } finally {
    file.closeSync();
  }
}

class Walk {
  private readonly file: StorageFile;
  private readonly levels: number;
  private readonly size: number;
  private readonly whole: Buffer | null;
  private readonly pageSize: number;
  private readonly meta: Buffer;
  private readonly transaction: bigint;
  private readonly lastPage: number;
  private readonly seen: Uint8Array;
  private readonly levelPages: Buffer[] = [];
  private readonly freeRuns: { readonly first: number; readonly count: number }[] = [];
  private counts = { interior: 0, leaf: 0, overflow: 0, entries: 0 };

  constructor(file: StorageFile, levels: number) {
    this.file = file;
    this.levels = levels;
    this.size = file.sizeSync();
    this.whole = this.size <= WHOLE_FILE_MAX ? Buffer.allocUnsafe(this.size) : null;
    if (this.whole !== null) file.readSync(0, this.whole);
    const first = this.read(0, TRANSACTION + 8, "the first meta page");
    this.pageSize = first.readUInt32LE(FREE_TREE);
    const second = this.read(this.pageSize, TRANSACTION + 8, "the second meta page");
    for (const meta of [first, second]) {
      const [page, flags] = [meta.readUInt16LE(18), meta.readUInt16LE(FREE_TREE + 4)];
      check(page === META, () => `a meta page has flags ${page}`);
      check((flags & ENCRYPTED) === 0, () => "a meta page says that the file is encrypted");
    }
    const isFirst = first.readBigUInt64LE(TRANSACTION) >= second.readBigUInt64LE(TRANSACTION);
    this.meta = isFirst ? first : second;
    this.transaction = this.meta.readBigUInt64LE(TRANSACTION);
    // lmdb finds the meta page of a transaction by its last bit.
    check(
      (this.transaction & 1n) === (isFirst ? 0n : 1n),
      () => "its newer meta page is misplaced",
    );
    const last = this.meta.readBigUInt64LE(LAST_PAGE);
    check(last >= 1n && last < 1n << 40n, () => `its last page would be page ${last}`);
    this.lastPage = Number(last);
    const pagesInFile = Math.ceil(this.size / this.pageSize);
    this.seen = new Uint8Array((Math.min(this.lastPage + 1, pagesInFile) >> 3) + 1);
  }

  run(): void {
    const main = this.tree(MAIN_TREE);
    const free = this.tree(FREE_TREE);
    this.walkTree(main);
    if (this.levels >= main.depth) {
      const { interior, leaf, overflow, entries } = this.counts;
      const counted = [entries, interior, leaf, overflow].join(", ");
      const wanted = [main.entries, main.interiorPages, main.leafPages, main.overflowPages];
      check(
        counted === wanted.join(", "),
        () => `it has ${counted} entries and pages, its meta page says ${wanted.join(", ")}`,
      );
    }
    this.walkTree(free);
    for (const { first, count } of this.freeRuns) {
      const end = Math.min(first + count, this.seen.length * 8);
      for (let page = first; page < end; page++)
        check(!this.isSeen(page), () => `page ${page} is in use and free`);
    }
  }

  private tree(at: number): Tree {
    const { meta } = this;
    const name = at === MAIN_TREE ? "main" : "free";
    const flags = meta.readUInt16LE(at + 4) & TREE_FLAGS;
    check(
      flags === (name === "free" ? INTEGER_KEY : 0),
      () => `its ${name} tree has flags ${flags}`,
    );
    const depth = meta.readUInt16LE(at + 6);
    const root = meta.readBigUInt64LE(at + 40);
    check(depth <= DEPTH_MAX, () => `its ${name} tree would be ${depth} levels deep`);
    check((root === NO_PAGE) === (depth === 0), () => `its ${name} tree has no root or no depth`);
    return {
      name,
      depth,
      interiorPages: meta.readBigUInt64LE(at + 8),
      leafPages: meta.readBigUInt64LE(at + 16),
      overflowPages: meta.readBigUInt64LE(at + 24),
      entries: meta.readBigUInt64LE(at + 32),
      root,
    };
  }

  private walkTree(tree: Tree): void {
    this.counts = { interior: 0, leaf: 0, overflow: 0, entries: 0 };
    if (tree.root === NO_PAGE) return;
    this.walkPage(tree, this.inRange(tree.root), 1, { low: null, high: null });
  }

  private walkPage(tree: Tree, number: number, level: number, bounds: Bounds): void {
    this.mark(number, 1);
    const page = this.page(number, level, level === tree.depth);
    check(
      page.isLeaf || page.count > (tree.name === "main" ? 1 : 0),
      () => `page ${number} has ${page.count} children`,
    );
    check(page.count > 0, () => `page ${number} has no entries`);
    if (page.isLeaf) this.counts.leaf++;
    else this.counts.interior++;
    const keys = this.keys(tree, page, bounds);
    if (page.isLeaf) {
      this.counts.entries += page.count;
      for (const key of keys) this.leafNode(tree, page, key);
      return;
    }
    for (let index = 0; index < keys.length; index++) {
      const node = keys[index]!.start - NODE_HEADER_SIZE;
      const child = this.inRange(BigInt(page.bytes.readUIntLE(node, 6)));
      if (level === this.levels) continue;
      this.walkPage(tree, child, level + 1, {
        low: index === 0 ? bounds.low : keys[index]!,
        high: keys[index + 1] ?? bounds.high,
      });
    }
  }

  /** The page's own header (LP1), and where its nodes can be. */
  private page(number: number, level: number, isLeaf: boolean): Page {
    const bytes = this.readPage(number, level);
    this.checkHeader(bytes, number, isLeaf ? LEAF : INTERIOR);
    const lower = bytes.readUInt16LE(20);
    const upper = bytes.readUInt16LE(22);
    check(
      lower % 2 === 0 && lower <= upper && upper <= this.pageSize - HEADER_SIZE,
      () => `page ${number} has its free space from ${lower} to ${upper}`,
    );
    return { number, bytes, isLeaf, count: lower / 2 };
  }

  private checkHeader(bytes: Buffer, number: number, wanted: number): void {
    const found = bytes.readBigUInt64LE(0);
    check(found === BigInt(number), () => `page ${number} says it is page ${found}`);
    const transaction = bytes.readBigUInt64LE(8);
    check(
      transaction <= this.transaction,
      () => `page ${number} is of transaction ${transaction}, the file of ${this.transaction}`,
    );
    const flags = bytes.readUInt16LE(18);
    check(flags === wanted, () => `page ${number} has flags ${flags}, not ${wanted}`);
  }

  /** The keys of a page, after LP2 and LP3. */
  private keys(tree: Tree, page: Page, bounds: Bounds): Slice[] {
    const { bytes, number } = page;
    const upper = HEADER_SIZE + bytes.readUInt16LE(22);
    // As lmdb computes it: longer keys are none of its own, and its readers have no room for them.
    const keyMax = (((this.pageSize - HEADER_SIZE) / 2) & -2) - 2 - NODE_HEADER_SIZE - TREE_SIZE;
    const keys: Slice[] = [];
    let previous = bounds.low;
    let total = 0;
    const fail = (index: number, what: string): never => {
      throw new Damage(`node ${index} of page ${number} ${what}`);
    };
    const isFree = tree.name === "free";
    // Once for each row of the catalog: no closures here.
    for (let index = 0; index < page.count; index++) {
      const node = HEADER_SIZE + bytes.readUInt16LE(HEADER_SIZE + 2 * index);
      if (node % 2 !== 0 || node < upper || node + NODE_HEADER_SIZE > this.pageSize)
        fail(index, `lies at ${node}`);
      const keySize = bytes.readUInt16LE(node + 6);
      const key = { bytes, start: node + NODE_HEADER_SIZE, end: node + NODE_HEADER_SIZE + keySize };
      const end = key.end + (page.isLeaf ? inlineSize(bytes, node) : 0);
      if (end > this.pageSize || keySize > keyMax) fail(index, "is too long");
      total += (end - node + 1) & ~1;
      keys.push(key);
      // The first key of an interior page is never looked at.
      if (!page.isLeaf && index === 0) continue;
      if (keySize === 0 || (isFree && keySize !== 8)) fail(index, `has a key of ${keySize} bytes`);
      const order = previous === null ? -1 : compare(tree, previous, key);
      // Only a bound may equal the key.
      if (order > 0 || (order === 0 && previous !== bounds.low)) fail(index, "is out of order");
      previous = key;
    }
    const { high } = bounds;
    if (high !== null && previous !== null && previous !== bounds.low)
      check(
        compare(tree, previous, high) < 0,
        () => `page ${number} has keys of its right sibling`,
      );
    check(
      upper + total === this.pageSize,
      () => `the nodes of page ${number} overlap or leave gaps`,
    );
    return keys;
  }

  private leafNode(tree: Tree, page: Page, key: Slice): void {
    const { bytes } = page;
    const node = key.start - NODE_HEADER_SIZE;
    const flags = bytes.readUInt16LE(node + 4);
    if (flags === 0 && tree.name === "main") return;
    const size = bytes.readUInt32LE(node);
    check(
      flags === 0 || flags === IN_OVERFLOW,
      () => `page ${page.number} has a node of flags ${flags}`,
    );
    let at = page.number * this.pageSize + key.end;
    if (flags === IN_OVERFLOW) {
      const first = this.overflowRun(bytes, key.end, size);
      at = first * this.pageSize + HEADER_SIZE;
    }
    if (tree.name === "main") return;
    const transaction = bytes.readBigUInt64LE(key.start);
    check(
      transaction > 0n && transaction <= this.transaction,
      () => `page ${page.number} lists free pages of transaction ${transaction}`,
    );
    if (this.levels >= tree.depth) this.freeList(this.read(at, size, "a list of free pages"));
  }

  /** Returns the first page. */
  private overflowRun(bytes: Buffer, at: number, size: number): number {
    const first = this.inRange(bytes.readBigUInt64LE(at));
    const pages = bytes.readBigUInt64LE(at + 16);
    const needed = Math.ceil((HEADER_SIZE + size) / this.pageSize);
    const what = (): string => `the overflow pages ${first} and following`;
    check(
      pages >= BigInt(needed) && pages <= BigInt(this.lastPage + 1 - first),
      () => `${what()} would be ${pages} pages for ${size} bytes`,
    );
    const end = first * this.pageSize + HEADER_SIZE + size;
    check(end <= this.size, () => `${what()} end after the file`);
    const transaction = bytes.readBigUInt64LE(at + 8);
    check(transaction <= this.transaction, () => `${what()} are of transaction ${transaction}`);
    this.mark(first, Number(pages));
    const header = this.read(first * this.pageSize, HEADER_SIZE, `page ${first}`);
    this.checkHeader(header, first, OVERFLOW);
    const own = header.readUInt32LE(20);
    check(BigInt(own) === pages, () => `${what()} are ${own} or ${pages} pages`);
    this.counts.overflow += own;
    return first;
  }

  private freeList(words: Buffer): void {
    check(words.byteLength >= 8, () => "a list of free pages is empty");
    const length = words.readBigUInt64LE(0);
    const there = Math.floor(words.byteLength / 8) - 1;
    check(length <= BigInt(there), () => `a list of free pages has ${there} words, not ${length}`);
    for (let index = 1; index <= Number(length); index++) {
      const word = words.readBigInt64LE(8 * index);
      if (word === 0n) continue;
      let count = 1n;
      let page = word;
      if (word < 0n) {
        // lmdb may cut its list between the count of a run and its page.
        if (index === Number(length)) return;
        count = -word;
        page = words.readBigInt64LE(8 * ++index);
        if (page === 0n) continue;
      }
      check(
        page >= 2n && page + count - 1n <= BigInt(this.lastPage),
        () => `the free pages ${page} and following would be ${count}`,
      );
      this.freeRuns.push({ first: Number(page), count: Number(count) });
    }
  }

  private inRange(page: bigint): number {
    check(
      page >= 2n && page <= BigInt(this.lastPage),
      () => `page ${page} is beyond the last page`,
    );
    return Number(page);
  }

  private isSeen(page: number): boolean {
    return ((this.seen[page >> 3] ?? 0) & (1 << (page & 7))) !== 0;
  }

  /** Pages after the end of the file have no mark: only the unused end of an overflow run can lie there. */
  private mark(first: number, count: number): void {
    const end = Math.min(first + count, this.seen.length * 8);
    for (let page = first; page < end; page++) {
      check(!this.isSeen(page), () => `page ${page} is used twice`);
      this.seen[page >> 3]! |= 1 << (page & 7);
    }
  }

  /** A page stays valid until another one of its level is read. */
  private readPage(number: number, level: number): Buffer {
    const offset = number * this.pageSize;
    if (this.whole !== null) return this.read(offset, this.pageSize, `page ${number}`);
    const target = (this.levelPages[level] ??= Buffer.allocUnsafe(this.pageSize));
    const count = this.file.readSync(offset, target);
    check(count === this.pageSize, () => `it ends before page ${number}`);
    return target;
  }

  private read(offset: number, size: number, what: string): Buffer {
    check(offset + size <= this.size, () => `it ends before ${what}`);
    if (this.whole !== null) return this.whole.subarray(offset, offset + size);
    const target = Buffer.allocUnsafe(size);
    this.file.readSync(offset, target);
    return target;
  }
}

/** Bytes of a leaf node after its key. */
function inlineSize(bytes: Buffer, node: number): number {
  return (bytes.readUInt16LE(node + 4) & IN_OVERFLOW) !== 0
    ? OVERFLOW_VALUE_SIZE
    : bytes.readUInt32LE(node);
}

function compare(tree: Tree, a: Slice, b: Slice): number {
  if (tree.name === "main") return compareBytes(a, b);
  const left = a.bytes.readBigUInt64LE(a.start);
  const right = b.bytes.readBigUInt64LE(b.start);
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Faster than Buffer.compare for keys as short as these. */
function compareBytes(a: Slice, b: Slice): number {
  const sizeA = a.end - a.start;
  const sizeB = b.end - b.start;
  const size = Math.min(sizeA, sizeB);
  for (let index = 0; index < size; index++) {
    const difference = a.bytes[a.start + index]! - b.bytes[b.start + index]!;
    if (difference !== 0) return difference;
  }
  return sizeA - sizeB;
}

function check(holds: boolean, what: () => string): void {
  if (!holds) throw new Damage(what());
}
