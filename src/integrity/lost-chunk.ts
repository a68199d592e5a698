/**
 * A chunk that cannot be read whole, and what has been found of it so far.
 *
 * L1. Found is what has proved itself: a stored chunk that passes its own checks under the id, or a page with the hash that the
 *     page index gives for the slot.
 */
import type { ChunkPlace } from "../catalog/catalog.ts";
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant, StoreError } from "../errors.ts";
import {
  CHUNK_HEADER_SIZE,
  CHUNK_SLOTS_MAX,
  chunkId,
  decodeChunk,
  encodeChunk,
  type EncodedChunk,
} from "../page/chunk-format.ts";
import {
  Codec,
  type CodecChoice,
  CompressionError,
  decompressSync,
  isCodec,
} from "../page/compression.ts";
import { pageHash } from "../page/page-hash.ts";

const CRC_SIZE = 8;

export class LostChunk {
  readonly id: Uint8Array;
  /** What the chunk index says; null when it says nothing. */
  readonly place: ChunkPlace | null;
  /** Of the pages that the page index knows in it, by slot. */
  readonly hashes: Map<number, Uint8Array> = new Map();
  readonly pages: Map<number, Uint8Array> = new Map();
  /** Where the pages came from. */
  readonly origins: Set<string> = new Set();
  /** Pages that the store reads from it as it is. */
  readableCount = 0;
  /** Also a damaged one. */
  hasRow = false;
  /** The stored bytes of the whole chunk. */
  #whole: Uint8Array | null = null;
  #pageSize: number | null = null;
  #slotCount: number | null = null;
  readonly #cipher: StoreCipher | null;

  constructor(id: Uint8Array, place: ChunkPlace | null, cipher: StoreCipher | null) {
    this.id = id;
    this.place = place;
    this.#cipher = cipher;
  }

  get isWhole(): boolean {
    return this.#whole !== null;
  }

  get pageSize(): number | null {
    return this.#pageSize;
  }

  /** Takes what these stored bytes have, when they are this chunk. */
  takeStored(bytes: Uint8Array, origin: string): void {
    let chunk;
    try {
      const options = { expectedId: this.id, cipher: this.#cipher, place: origin, verifyId: true };
      chunk = decodeChunk(bytes, options);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return;
    }
    this.#pageSize = chunk.pageSize;
    this.#slotCount = chunk.slotCount;
    if (chunk.isComplete) this.#whole = Uint8Array.from(bytes);
    for (let slot = 0; slot < chunk.slotCount; slot++) {
      const page = chunk.page(slot);
      if (page !== null) this.#take(slot, page, origin);
    }
  }

  /** Takes the pages that damage has left whole: those whose hash is in the page index. Not of sealed chunks. */
  salvage(bytes: Uint8Array, origin: string): void {
    if (this.#cipher !== null || bytes.length <= CHUNK_HEADER_SIZE + CRC_SIZE) return;
    const pageSize = 2 ** bytes[7]!;
    const slotCount = bytes[8]!;
    const codec = bytes[5]!;
    const isPlausible =
      pageSize >= 512 && pageSize <= 65_536 && slotCount >= 1 && slotCount <= CHUNK_SLOTS_MAX;
    if (!isPlausible || !isCodec(codec)) return;
    const present = Buffer.from(bytes).readBigUInt64LE(16) & ((1n << BigInt(slotCount)) - 1n);
    const slots = Array.from({ length: slotCount }, (_, slot) => slot).filter(
      (slot) => ((present >> BigInt(slot)) & 1n) === 1n,
    );
    const body = bytes.subarray(CHUNK_HEADER_SIZE, bytes.length - CRC_SIZE);
    let pages: Uint8Array;
    try {
      pages = codec === Codec.raw ? body : decompressSync(body, codec, slots.length * pageSize);
    } catch (error) {
      if (!(error instanceof CompressionError)) throw error;
      return;
    }
    for (const [rank, slot] of slots.entries())
      this.takePage(slot, pages.subarray(rank * pageSize, (rank + 1) * pageSize), origin);
  }

  /** Takes a page that has the hash of the slot. */
  takePage(slot: number, page: Uint8Array, origin: string): void {
    const hash = this.hashes.get(slot);
    if (hash === undefined || (this.#pageSize ?? page.length) !== page.length) return;
    if (page.length < 512 || Buffer.compare(pageHash(page, this.#cipher), hash) !== 0) return;
    this.#pageSize = page.length;
    this.#take(slot, page, origin);
  }

  #take(slot: number, page: Uint8Array, origin: string): void {
    if (this.pages.has(slot)) return;
    this.pages.set(slot, Uint8Array.from(page));
    this.origins.add(origin);
  }

  /** What is to be stored: the whole chunk, or under its id what was found of it. There must be pages. */
  encode(codec: CodecChoice): {
    encoded: EncodedChunk;
    shape: { slotCount: number; present?: bigint };
  } {
    if (this.#whole !== null) {
      const encoded = { id: this.id, bytes: this.#whole };
      return { encoded, shape: { slotCount: this.#whole[8]! } };
    }
    const pageSize = this.#pageSize;
    invariant(pageSize !== null && this.pages.size > 0, "Pages of the chunk were found");
    const slots = [...this.pages.keys()].sort((left, right) => left - right);
    const pages = new Uint8Array(slots.length * pageSize);
    for (const [rank, slot] of slots.entries()) pages.set(this.pages.get(slot)!, rank * pageSize);
    const cipher = this.#cipher;
    const options = { pages, pageSize, codec, cipher };
    const isRow = slots.at(-1) === slots.length - 1;
    if (isRow && Buffer.compare(chunkId(pages, pageSize, cipher), this.id) === 0)
      return { encoded: encodeChunk(options), shape: { slotCount: slots.length } };
    // Where nothing says how many there were, one more than is known: it does not pass for the whole chunk.
    const known = Math.max(...this.hashes.keys(), ...slots) + 1;
    const slotCount = this.#slotCount ?? Math.min(CHUNK_SLOTS_MAX, known + 1);
    let present = 0n;
    for (const slot of slots) present |= 1n << BigInt(slot);
    const holes = { id: this.id, slotCount, present };
    const isWhole = slots.length === slotCount;
    const encoded = encodeChunk({ ...options, holes });
    return { encoded, shape: isWhole ? { slotCount } : { slotCount, present } };
  }
}
