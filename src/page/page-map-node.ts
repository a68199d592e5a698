/**
 * The nodes of the page map (see page-map.ts): immutable, content-addressed, kept in the catalog. Little-endian.
 *
 *   Leaf                                        Interior node
 *   offset size  field                          offset size  field
 *        0    1  kind, 1                             0    1  kind, 2
 *        1    1  format version, 1                   1    1  format version, 1
 *        2    1  level, 1                            2    1  level, 2 to 6
 *        3    1  chunk count c, 1 to 64              3    1  child count c, 1 to 64
 *        4  16c  chunk ids                           4    8  presence: bit n = child n exists
 *    4+16c  128  per page: index of its chunk       12  16c  node ids of the children that exist, in order
 *                in the table above, slot in
 *                that chunk; FF FF = no such page
 *
 * The chunk id of 16 zeros is no chunk's: a page that it stands for is lost (page-writer.ts, W5).
 *
 * Node id = the first 16 bytes of SHA-256 of these bytes; with a store key, of HMAC-SHA-256 under the address key.
 *
 * Invariants
 * O1. One content has one encoding: chunk ids stand in the order of their first use by page, each once and each used;
 *     a node without pages does not exist. Readers refuse other encodings, other versions and other kinds.
 * O2. Bytes are decoded only after their hash matched the id that they were asked by.
 */
import { createHash } from "node:crypto";
import type { StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import { CHUNK_SLOTS_MAX } from "./chunk-format.ts";
import type { ChunkHandle, ChunkHandles, ChunkReference } from "./chunk-handle.ts";
import { idKey } from "./chunk-handle.ts";

export const NODE_FANOUT = 64;
export const NODE_ID_SIZE = 16;
/** 64^6 pages are more than SQLite's 2^32 - 2. */
export const LEVELS_MAX = 6;

const LEAF = 1;
const INTERIOR = 2;
const FORMAT_VERSION = 1;
const LEAF_TABLE_OFFSET = 4;
const INTERIOR_TABLE_OFFSET = 12;
const ABSENT = 0xff;

/** What a leaf says of its 64 pages: null where there is no page. */
export type LeafPages = (ChunkReference | null)[];

export interface LeafNode {
  readonly level: 1;
  readonly key: string;
  readonly id: Uint8Array;
  readonly pages: readonly (ChunkReference | null)[];
  readonly weight: 1;
  referenced: boolean;
}

export interface NodeReference {
  readonly id: Uint8Array;
  readonly key: string;
}

/** 64 children: null where there is none. */
export type NodeChildren = (NodeReference | null)[];

export interface InteriorNode {
  readonly level: number;
  readonly key: string;
  readonly id: Uint8Array;
  readonly children: readonly (NodeReference | null)[];
  readonly weight: 1;
  referenced: boolean;
}

export type PageMapNode = LeafNode | InteriorNode;

export function isLeaf(node: PageMapNode): node is LeafNode {
  return node.level === 1;
}

export function nodeId(bytes: Uint8Array, cipher: StoreCipher | null): Uint8Array {
  if (cipher !== null) return cipher.address(bytes);
  return new Uint8Array(createHash("sha256").update(bytes).digest().subarray(0, NODE_ID_SIZE));
}

export function nodeName(id: Uint8Array): string {
  return Buffer.from(id).toString("hex");
}

/** The bytes of a leaf with these pages, null when there is none. */
export function encodeLeaf(pages: readonly (ChunkReference | null)[]): Uint8Array | null {
  const table = new Map<ChunkHandle, number>();
  for (const reference of pages) {
    if (reference !== null && !table.has(reference.chunk)) table.set(reference.chunk, table.size);
  }
  if (table.size === 0) return null;
  const entries = LEAF_TABLE_OFFSET + table.size * NODE_ID_SIZE;
  const bytes = new Uint8Array(entries + NODE_FANOUT * 2);
  bytes[0] = LEAF;
  bytes[1] = FORMAT_VERSION;
  bytes[2] = 1;
  bytes[3] = table.size;
  for (const [chunk, index] of table) bytes.set(chunk.id, LEAF_TABLE_OFFSET + index * NODE_ID_SIZE);
  for (let index = 0; index < NODE_FANOUT; index++) {
    const reference = pages[index] ?? null;
    const at = entries + index * 2;
    bytes[at] = reference === null ? ABSENT : (table.get(reference.chunk) ?? ABSENT);
    bytes[at + 1] = reference === null ? ABSENT : reference.slot;
  }
  return bytes;
}

/** The bytes of an interior node with these children, null when there is none. */
export function encodeInterior(
  level: number,
  children: readonly (NodeReference | null)[],
): Uint8Array | null {
  let count = 0;
  for (const child of children) if (child !== null) count++;
  if (count === 0) return null;
  const bytes = new Uint8Array(INTERIOR_TABLE_OFFSET + count * NODE_ID_SIZE);
  bytes[0] = INTERIOR;
  bytes[1] = FORMAT_VERSION;
  bytes[2] = level;
  bytes[3] = count;
  let position = INTERIOR_TABLE_OFFSET;
  for (let index = 0; index < NODE_FANOUT; index++) {
    const child = children[index] ?? null;
    if (child === null) continue;
    bytes[4 + (index >> 3)]! |= 1 << (index & 7);
    bytes.set(child.id, position);
    position += NODE_ID_SIZE;
  }
  return bytes;
}

export interface DecodeNodeOptions {
  readonly id: Uint8Array;
  readonly key: string;
  /** The level that the node above implies. */
  readonly level: number;
  readonly cipher: StoreCipher | null;
  readonly handles: ChunkHandles;
}

/** Verifies and decodes a node; keeps no view of `bytes`. Throws CORRUPT_NODE, or STORE_FORMAT for a newer version. */
export function decodeNode(bytes: Uint8Array, options: DecodeNodeOptions): PageMapNode {
  verifyNode(bytes, options);
  return options.level === 1 ? decodeLeaf(bytes, options) : decodeInterior(bytes, options);
}

/** O2, and what every kind of node has. */
function verifyNode(
  bytes: Uint8Array,
  { id, level, cipher }: Pick<DecodeNodeOptions, "id" | "level" | "cipher">,
): void {
  if (Buffer.compare(nodeId(bytes, cipher), id) !== 0) {
    throw corruptNode(id, `its ${bytes.length} bytes have another hash`);
  }
  if (bytes[1] !== FORMAT_VERSION) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read page map node ${nodeName(id)}: format version ${bytes[1]} is of a newer bough`,
    );
  }
  const kind = level === 1 ? LEAF : INTERIOR;
  if (bytes[0] !== kind || bytes[2] !== level) {
    throw corruptNode(
      id,
      `it is of kind ${bytes[0]} and level ${bytes[2]} where level ${level} belongs`,
    );
  }
}

export interface NodeVisitor {
  /** The id of a child is in the 16 bytes from `offset`. */
  child(bytes: Uint8Array, offset: number): void;
  /** The id of a chunk is in the 16 bytes from `offset`; the slots in use as 64 bits in two halves. */
  chunk(bytes: Uint8Array, offset: number, low: number, high: number): void;
}

const SLOTS_LOW = new Uint32Array(NODE_FANOUT);
const SLOTS_HIGH = new Uint32Array(NODE_FANOUT);

/** What a node refers to, without making objects of it; verified like `decodeNode` does but for O1. */
export function visitNode(
  bytes: Uint8Array,
  options: Pick<DecodeNodeOptions, "id" | "level" | "cipher">,
  visitor: NodeVisitor,
): void {
  verifyNode(bytes, options);
  const { id, level } = options;
  const count = bytes[3]!;
  const table = level === 1 ? LEAF_TABLE_OFFSET : INTERIOR_TABLE_OFFSET;
  const end = table + count * NODE_ID_SIZE;
  if (bytes.length !== end + (level === 1 ? NODE_FANOUT * 2 : 0) || count > NODE_FANOUT)
    throw corruptNode(id, `${bytes.length} bytes do not hold ${count} ids`);
  if (level > 1) {
    for (let index = 0; index < count; index++) visitor.child(bytes, table + index * NODE_ID_SIZE);
    return;
  }
  SLOTS_LOW.fill(0, 0, count);
  SLOTS_HIGH.fill(0, 0, count);
  for (let at = end; at < bytes.length; at += 2) {
    const chunk = bytes[at]!;
    const slot = bytes[at + 1]!;
    if (chunk === ABSENT && slot === ABSENT) continue;
    if (chunk >= count || slot >= CHUNK_SLOTS_MAX)
      throw corruptNode(id, `an entry is chunk ${chunk} of ${count}, slot ${slot}`);
    if (slot < 32) SLOTS_LOW[chunk]! |= 1 << slot;
    else SLOTS_HIGH[chunk]! |= 1 << (slot - 32);
  }
  for (let index = 0; index < count; index++)
    visitor.chunk(bytes, table + index * NODE_ID_SIZE, SLOTS_LOW[index]!, SLOTS_HIGH[index]!);
}

function decodeLeaf(bytes: Uint8Array, { id, key, handles }: DecodeNodeOptions): LeafNode {
  const count = bytes[3]!;
  const entries = LEAF_TABLE_OFFSET + count * NODE_ID_SIZE;
  if (count < 1 || count > NODE_FANOUT || bytes.length !== entries + NODE_FANOUT * 2) {
    throw corruptNode(id, `${bytes.length} bytes do not hold ${count} chunk ids`);
  }
  const table: ChunkHandle[] = [];
  for (let index = 0; index < count; index++) {
    table.push(handles.intern(bytes, LEAF_TABLE_OFFSET + index * NODE_ID_SIZE));
  }
  const pages: LeafPages = [];
  let used = 0;
  for (let index = 0; index < NODE_FANOUT; index++) {
    const tableIndex = bytes[entries + index * 2]!;
    const slot = bytes[entries + index * 2 + 1]!;
    if (tableIndex === ABSENT && slot === ABSENT) {
      pages.push(null);
      continue;
    }
    const chunk = table[tableIndex];
    if (chunk === undefined || tableIndex > used || slot >= CHUNK_SLOTS_MAX) {
      throw corruptNode(id, `entry ${index} is chunk ${tableIndex} of ${count}, slot ${slot}`);
    }
    if (tableIndex === used) used++;
    pages.push({ chunk, slot });
  }
  if (used !== count || new Set(table).size !== count) {
    throw corruptNode(id, `${used} of its ${count} chunk ids are in use`);
  }
  return { level: 1, key, id, pages, weight: 1, referenced: false };
}

function decodeInterior(bytes: Uint8Array, { id, key, level }: DecodeNodeOptions): InteriorNode {
  const count = bytes[3]!;
  const children: NodeChildren = [];
  let position = INTERIOR_TABLE_OFFSET;
  for (let index = 0; index < NODE_FANOUT; index++) {
    if ((bytes[4 + (index >> 3)]! & (1 << (index & 7))) === 0) {
      children.push(null);
      continue;
    }
    if (position + NODE_ID_SIZE > bytes.length) {
      throw corruptNode(id, `${bytes.length} bytes do not hold its children`);
    }
    const childId = new Uint8Array(bytes.subarray(position, position + NODE_ID_SIZE));
    children.push({ id: childId, key: idKey(childId) });
    position += NODE_ID_SIZE;
  }
  if (
    count < 1 ||
    position !== INTERIOR_TABLE_OFFSET + count * NODE_ID_SIZE ||
    position !== bytes.length
  ) {
    throw corruptNode(id, `${bytes.length} bytes do not hold ${count} children`);
  }
  return { level, key, id, children, weight: 1, referenced: false };
}

export function corruptNode(id: Uint8Array, what: string): StoreError {
  const node = nodeName(id);
  return new StoreError("CORRUPT_NODE", `Cannot read page map node ${node}: ${what}`, {
    details: { node },
  });
}
