/**
 * Where pages become chunks: each page is hashed, found among the pages that the store has already, or collected with
 * its neighbours into a chunk. Checkpoints, imports and large transactions all write pages through here.
 *
 * W1. A page is stored once: its hash is looked up in the index (pages of earlier checkpoints) and among those written
 *     since, whose chunks the index does not know yet.
 * W2. A reference is handed out only when its chunk's bytes are in a pack. Durable is another step: ChunkStore.sync.
 * W3. Chunks hold pages of one size, in the order in which they came.
 * W4. A chunk that garbage collection left with holes is no chunk that the store has already: its pages are stored again
 *     under the same id, and the new place replaces the old one.
 * W5. A page that changed after its older bytes were lost has a place that no chunk will ever have: bringing back the older
 *     bytes must not make them pass for the newer ones.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant } from "../errors.ts";
import {
  CHUNK_SLOTS_MAX,
  encodeChunk,
  encodeChunkAsync,
  type EncodedChunk,
} from "./chunk-format.ts";
import {
  type ChunkHandle,
  type ChunkHandles,
  type ChunkLocation,
  type ChunkReference,
  idKey,
} from "./chunk-handle.ts";
import type { ChunkStore } from "./chunk-store.ts";
import type { CodecChoice } from "./compression.ts";
import { pageHash } from "./page-hash.ts";
import type { WriteBarrier } from "./write-barrier.ts";

/** Pages that the catalog knows. */
export interface PageIndex {
  find(hash: Uint8Array): { readonly chunkId: Uint8Array; readonly slot: number } | undefined;
}

/** Chunks and pages written since the catalog was last brought up to date. */
export class PendingPages {
  readonly chunks: Map<string, ChunkHandle> = new Map();
  /** By page hash, 16 latin1 characters. */
  readonly pages: Map<string, ChunkReference> = new Map();

  clear(): void {
    this.chunks.clear();
    this.pages.clear();
  }
}

export interface PageWriterOptions {
  readonly chunks: ChunkStore;
  readonly handles: ChunkHandles;
  readonly index: PageIndex;
  readonly pending: PendingPages;
  readonly barrier: WriteBarrier;
  /** Where a chunk is that the store has already, written by this run or an earlier one. */
  readonly locate: (id: Uint8Array) => ChunkLocation | undefined;
  readonly cipher: StoreCipher | null;
  readonly codec: CodecChoice;
  readonly pageSize: number;
  /** Pages in a chunk, at most 64. */
  readonly chunkPages: number;
}

/** No chunk hashes to this. Page maps have it where a page was lost: append only, as what is stored. */
const LOST_CHUNK_ID: Uint8Array = new Uint8Array(16);

type Receiver = (reference: ChunkReference) => void;

interface ChunkDraft {
  readonly pages: Uint8Array;
  readonly hashes: string[];
  readonly receivers: { slot: number; receive: Receiver }[];
}

/** Chunks being compressed at once by an asynchronous writer: enough for two cores, and a bound on memory. */
const CHUNKS_IN_FLIGHT_MAX = 4;

export class PageWriter {
  readonly #options: PageWriterOptions;
  #draft: ChunkDraft;
  /** Slots in chunks not written yet, so that equal pages of one run share a slot. */
  readonly #unwritten: Map<string, { draft: ChunkDraft; slot: number }> = new Map();
  readonly #inFlight: Promise<void>[] = [];
  /** Of chunks that were written, to be filled again. */
  readonly #idleBuffers: Uint8Array[] = [];
  pagesWritten = 0;
  pagesShared = 0;

  constructor(options: PageWriterOptions) {
    invariant(
      options.chunkPages <= CHUNK_SLOTS_MAX,
      `A chunk has at most ${CHUNK_SLOTS_MAX} pages`,
    );
    this.#options = options;
    this.#draft = this.#newDraft();
  }

  /** Copies the page; `receive` is called now or when the page's chunk is written. Returns true when a chunk is full. */
  add(page: Uint8Array, receive: Receiver): boolean {
    const hash = pageHash(page, this.#options.cipher);
    const key = idKey(hash);
    const known = this.#find(key, hash);
    if (known !== null) {
      this.pagesShared++;
      this.#options.barrier.marks?.page(known.chunk.id, known.slot);
      receive(known);
      return false;
    }
    const unwritten = this.#unwritten.get(key);
    if (unwritten !== undefined) {
      this.pagesShared++;
      unwritten.draft.receivers.push({ slot: unwritten.slot, receive });
      return false;
    }
    const draft = this.#draft;
    const slot = draft.hashes.length;
    draft.pages.set(page, slot * this.#options.pageSize);
    draft.hashes.push(key);
    draft.receivers.push({ slot, receive });
    this.#unwritten.set(key, { draft, slot });
    this.pagesWritten++;
    return draft.hashes.length === this.#options.chunkPages;
  }

  /** A place that no page has or will have: what reads it is told that the page is lost. */
  lostPage(): ChunkReference {
    return { chunk: this.#options.handles.intern(LOST_CHUNK_ID), slot: 0 };
  }

  /** Writes the pages collected so far as a chunk. */
  flushSync(): void {
    const draft = this.#takeDraft();
    if (draft !== null) this.#write(draft, encodeChunk(this.#encodeOptions(draft)));
  }

  /** Like `flushSync`, compressing on other threads; waits only when enough chunks are under way. */
  async flush(): Promise<void> {
    const draft = this.#takeDraft();
    if (draft !== null) {
      const write = encodeChunkAsync(this.#encodeOptions(draft)).then((encoded) =>
        this.#write(draft, encoded),
      );
      write.catch(() => {}); // Reported by whoever awaits it, which may be later or, after another failure, nobody.
      this.#inFlight.push(write);
    }
    if (this.#inFlight.length >= CHUNKS_IN_FLIGHT_MAX) await this.#inFlight.shift();
  }

  /** Writes everything; all receivers have been called when it resolves. */
  async finish(): Promise<void> {
    await this.flush();
    await Promise.all(this.#inFlight.splice(0));
  }

  /** Gives up what is not written yet; nothing of this writer is under way when it resolves. */
  async abandon(): Promise<void> {
    this.#takeDraft();
    await Promise.allSettled(this.#inFlight.splice(0));
  }

  #find(key: string, hash: Uint8Array): ChunkReference | null {
    const { pending, index, handles, locate } = this.#options;
    const written = pending.pages.get(key);
    if (written !== undefined) return written;
    const place = index.find(hash);
    if (place === undefined) return null;
    const chunk = handles.intern(place.chunkId);
    chunk.location ??= locate(chunk.id) ?? null; // A commit record says where its chunks are.
    if (chunk.location === null) return null; // Stored again: what is built on an unknown chunk could never be read.
    return { chunk, slot: place.slot };
  }

  #takeDraft(): ChunkDraft | null {
    const draft = this.#draft;
    if (draft.hashes.length === 0) return null;
    this.#draft = this.#newDraft();
    return draft;
  }

  #newDraft(): ChunkDraft {
    const { pageSize, chunkPages } = this.#options;
    const pages = this.#idleBuffers.pop() ?? new Uint8Array(pageSize * chunkPages);
    return { pages, hashes: [], receivers: [] };
  }

  #encodeOptions(draft: ChunkDraft): Parameters<typeof encodeChunk>[0] {
    const { pageSize, codec, cipher } = this.#options;
    const pages = draft.pages.subarray(0, draft.hashes.length * pageSize);
    return { pages, pageSize, codec, cipher };
  }

  #write(draft: ChunkDraft, encoded: EncodedChunk): void {
    const { chunks, handles, pending, locate, barrier } = this.#options;
    const handle = handles.intern(encoded.id);
    handle.location ??= locate(encoded.id) ?? null;
    barrier.marks?.chunk(handle.id);
    if (handle.location === null || handle.location.present !== undefined) {
      const place = chunks.append(encoded);
      chunks.relocate(handle, { ...place, slotCount: draft.hashes.length });
      pending.chunks.set(handle.key, handle);
    }
    const references = draft.hashes.map((key, slot) => {
      const reference: ChunkReference = { chunk: handle, slot };
      // Another writer may have stored the page meanwhile, and its place may be on the way into the index.
      if (!pending.pages.has(key)) pending.pages.set(key, reference);
      this.#unwritten.delete(key);
      return reference;
    });
    for (const { slot, receive } of draft.receivers) receive(references[slot]!);
    this.#idleBuffers.push(draft.pages); // An encoded chunk has its own bytes.
  }
}
