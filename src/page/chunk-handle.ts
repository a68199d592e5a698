/**
 * Chunks as the read path sees them: one object per chunk id that is in use, so that going from a page-map leaf to a
 * cached page compares no bytes and looks up no map.
 *
 * A1. At most one living handle per id, and so one place to change when a chunk moves or leaves the cache.
 * A2. Nothing here keeps a handle alive: cached page-map leaves, cached chunks and transactions do. The table of weak
 *     references is bounded by those.
 */
import { invariant } from "../errors.ts";
import { CHUNK_ID_SIZE, type DecodedChunk } from "./chunk-format.ts";

/** Where a chunk's bytes are. */
export interface ChunkLocation {
  /** The number of the pack file. */
  readonly pack: number;
  readonly offset: number;
  readonly length: number;
  /** Pages that the chunk was made with, where that is known. */
  readonly slotCount?: number;
  /** Of a chunk with holes the slots that are none; absent for a whole one. */
  readonly present?: bigint;
}

/** A decoded chunk that the page cache holds. */
export interface CachedChunk {
  readonly handle: ChunkHandle;
  readonly chunk: DecodedChunk;
  readonly weight: number;
  referenced: boolean;
}

export class ChunkHandle {
  /** 16 bytes, not to be written to. */
  readonly id: Uint8Array;
  /** The id as a string of 16 latin1 characters. */
  readonly key: string;
  /** Null until the first read asks the chunk index. */
  location: ChunkLocation | null = null;
  /** Set while the page cache holds the chunk. */
  cached: CachedChunk | null = null;

  constructor(id: Uint8Array, key: string) {
    this.id = id;
    this.key = key;
  }

  /** For messages. */
  get name(): string {
    return Buffer.from(this.id).toString("hex");
  }
}

/** One page of a chunk. */
export interface ChunkReference {
  readonly chunk: ChunkHandle;
  readonly slot: number;
}

/** The 16 bytes from `offset` as a string of 16 latin1 characters, a map key. */
export function idKey(bytes: Uint8Array, offset = 0): string {
  invariant(
    offset + CHUNK_ID_SIZE <= bytes.length,
    `an id has 16 bytes, not ${bytes.length - offset}`,
  );
  return Buffer.from(bytes.buffer, bytes.byteOffset + offset, CHUNK_ID_SIZE).toString("latin1");
}

export class ChunkHandles {
  readonly #handles = new Map<string, WeakRef<ChunkHandle>>();
  readonly #collected = new FinalizationRegistry<string>((key) => {
    // A new handle may have taken the key meanwhile.
    if (this.#handles.get(key)?.deref() === undefined) this.#handles.delete(key);
  });

  /** The handle of the id in the 16 bytes from `offset`, which are copied. */
  intern(bytes: Uint8Array, offset = 0): ChunkHandle {
    const key = idKey(bytes, offset);
    const known = this.#handles.get(key)?.deref();
    if (known !== undefined) return known;
    // Not `slice`: of a Buffer that is a view, and lmdb reuses the bytes under it.
    const handle = new ChunkHandle(
      new Uint8Array(bytes.subarray(offset, offset + CHUNK_ID_SIZE)),
      key,
    );
    this.#handles.set(key, new WeakRef(handle));
    this.#collected.register(handle, key);
    return handle;
  }

  /** The handle if it is in use; null does not mean that the chunk does not exist. */
  find(key: string): ChunkHandle | null {
    return this.#handles.get(key)?.deref() ?? null;
  }

  get count(): number {
    return this.#handles.size;
  }
}
