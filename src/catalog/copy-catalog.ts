/** Copies all entries of one key-value store into another, and says what a store holds in a number. */
import { CRC64_SIZE, Crc64 } from "../storage/crc64.ts";
import { KEY_SIZE_MAX } from "./key-order.ts";
import { type KeyValueStore, type RangeOptions, WriteBatch } from "./key-value.ts";

/** No row of the catalog begins with 0xff, which every table number is below. */
const ALL: RangeOptions = {
  start: new Uint8Array(0),
  end: new Uint8Array(KEY_SIZE_MAX).fill(0xff),
};

/** Bounds the memory that a batch takes. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

export interface CatalogDigest {
  readonly entryCount: number;
  /** Of keys and values. */
  readonly bytes: number;
  /** CRC64-NVME over sizes, keys and values in order, as 16 hex characters. */
  readonly checksum: string;
}

class Digest {
  readonly #crc = new Crc64();
  readonly #sizes = new Uint8Array(8);
  #entryCount = 0;
  #bytes = 0;

  add(key: Uint8Array, value: Uint8Array): void {
    const view = new DataView(this.#sizes.buffer);
    view.setUint32(0, key.byteLength, true);
    view.setUint32(4, value.byteLength, true);
    this.#crc.update(this.#sizes).update(key).update(value);
    this.#entryCount++;
    this.#bytes += key.byteLength + value.byteLength;
  }

  result(): CatalogDigest {
    const check = Buffer.alloc(CRC64_SIZE);
    this.#crc.digestInto(check, 0);
    const checksum = check.reverse().toString("hex");
    return { entryCount: this.#entryCount, bytes: this.#bytes, checksum };
  }
}

/** Reads everything. */
export function digestCatalog(store: KeyValueStore): CatalogDigest {
  const digest = new Digest();
  for (const { key, value } of store.range(ALL)) digest.add(key, value);
  return digest.result();
}

/**
 * Puts every entry of `source` into `target`, in one or many batches: what is there after a crash is any part. Durable
 * when it returns.
 */
export function copyCatalog(source: KeyValueStore, target: KeyValueStore): CatalogDigest {
  // A commit of this backend writes all of it, whatever the batch.
  const batchBytesMax = target.name === "memory" ? Infinity : BATCH_BYTES_MAX;
  const digest = new Digest();
  let batch = new WriteBatch();
  let size = 0;
  for (const { key, value } of source.range(ALL)) {
    digest.add(key, value);
    batch.put(new Uint8Array(key), new Uint8Array(value));
    size += key.byteLength + value.byteLength;
    if (size < batchBytesMax) continue;
    target.commit(batch);
    batch = new WriteBatch();
    size = 0;
  }
  target.commit(batch);
  return digest.result();
}
