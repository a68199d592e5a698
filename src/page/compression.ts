/**
 * Compression of chunk and history bodies. LZ4 in the layout of lz4-napi: a 4-byte little-endian plaintext size, then
 * one LZ4 block. The library is loaded at the first use, so that opening a store does not wait for it.
 *
 * Z1. A body is compressed only where that makes it smaller; otherwise its codec is raw.
 * Z2. Decompression allocates what the caller expects, never what the bytes claim: the library allocates by the size at
 *     the front of the body, so that size is compared with the expected one before the library sees it.
 */
import { createRequire } from "node:module";

/** Values are stored on disk: append only, never renumber. 2 is reserved for zstd. */
export const Codec = { raw: 0, lz4: 1 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

/** Bytes that do not decompress. Callers turn it into the StoreError of their format. */
export class CompressionError extends Error {
  override readonly name = "CompressionError";
}

export interface Compressed {
  readonly codec: Codec;
  readonly body: Uint8Array;
}

interface Lz4 {
  compressSync(plaintext: Uint8Array): Buffer;
  compress(plaintext: Uint8Array): Promise<Buffer>;
  uncompressSync(body: Uint8Array): Buffer;
}

let loaded: Lz4 | null = null;

function lz4(): Lz4 {
  loaded ??= createRequire(import.meta.url)("lz4-napi") as Lz4;
  return loaded;
}

/** LZ4 cannot expand a byte of its input to more than this. */
const LZ4_RATIO_MAX = 255;

export function isCodec(value: number): value is Codec {
  return value === Codec.raw || value === Codec.lz4;
}

/** The body may be `plaintext` itself, not a copy. */
export function compressSync(plaintext: Uint8Array, codec: Codec): Compressed {
  if (codec === Codec.raw) return { codec, body: plaintext };
  return smaller(plaintext, lz4().compressSync(plaintext));
}

/** The same result as compressSync, made on the thread pool; `plaintext` must not change until it settles. */
export async function compress(plaintext: Uint8Array, codec: Codec): Promise<Compressed> {
  if (codec === Codec.raw) return { codec, body: plaintext };
  return smaller(plaintext, await lz4().compress(plaintext));
}

function smaller(plaintext: Uint8Array, body: Uint8Array): Compressed {
  return body.length < plaintext.length
    ? { codec: Codec.lz4, body }
    : { codec: Codec.raw, body: plaintext };
}

/** The plaintext of `size` bytes: a new buffer for lz4, `body` itself when raw. Throws CompressionError. */
export function decompressSync(body: Uint8Array, codec: Codec, size: number): Uint8Array {
  if (codec === Codec.raw) {
    if (body.length !== size) {
      throw new CompressionError(`raw body has ${body.length} bytes instead of ${size}`);
    }
    return body;
  }
  if (body.length < 4) throw new CompressionError(`lz4 body has ${body.length} bytes`);
  const claimed = (body[0]! | (body[1]! << 8) | (body[2]! << 16) | (body[3]! << 24)) >>> 0;
  if (claimed !== size)
    throw new CompressionError(`lz4 body claims ${claimed} bytes instead of ${size}`);
  if (size > (body.length - 4) * LZ4_RATIO_MAX) {
    throw new CompressionError(`lz4 body of ${body.length} bytes cannot hold ${size}`);
  }
  let plaintext: Buffer;
  try {
    plaintext = lz4().uncompressSync(body);
  } catch (cause) {
    throw new CompressionError("lz4 body does not decompress", { cause });
  }
  if (plaintext.length !== size) {
    throw new CompressionError(`lz4 body gave ${plaintext.length} bytes instead of ${size}`);
  }
  // A plain view: a Buffer's subarray is several times slower.
  return new Uint8Array(plaintext.buffer, plaintext.byteOffset, size);
}
