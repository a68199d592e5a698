/**
 * Compression of chunk and history bodies. LZ4 in the layout of lz4-napi: a 4-byte little-endian plaintext size, then
 * one LZ4 block. zstd: one frame that states its content size, by the runtime where that has zstd (Node 22.15 and later);
 * elsewhere a library in JavaScript reads it, so that every store opens everywhere, and nothing writes it. Libraries are
 * loaded at the first use, so that opening a store does not wait for them.
 *
 * Z1. A body is compressed only where that makes it smaller; otherwise its codec is raw.
 * Z2. Decompression allocates what the caller expects, never what the bytes claim: the libraries allocate by the size at
 *     the front of the body, so that size is compared with the expected one before a library sees it.
 */
import { createRequire } from "node:module";
import * as zlib from "node:zlib";

import { invariant } from "../errors.ts";

/** Values are stored on disk: append only, never renumber. */
export const Codec = { raw: 0, lz4: 1, zstd: 2 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

/** What new bodies are compressed with: a codec as it is by default, or zstd at a level. */
export type CodecChoice = Codec | { readonly codec: typeof Codec.zstd; readonly level: number };

export const ZSTD_LEVEL_MIN = 1;
export const ZSTD_LEVEL_MAX = 22;

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

let loadedLz4: Lz4 | null = null;

function lz4(): Lz4 {
  loadedLz4 ??= createRequire(import.meta.url)("lz4-napi") as Lz4;
  return loadedLz4;
}

interface ZstdOptions {
  readonly params?: Readonly<Record<number, number>>;
  readonly pledgedSrcSize?: number;
  readonly maxOutputLength?: number;
}

/** What node:zlib has since Node 22.15. */
interface NativeZstd {
  zstdCompressSync(plaintext: Uint8Array, options: ZstdOptions): Buffer;
  zstdCompress(
    plaintext: Uint8Array,
    options: ZstdOptions,
    callback: (error: Error | null, body: Buffer) => void,
  ): void;
  zstdDecompressSync(body: Uint8Array, options: ZstdOptions): Buffer;
}

const nativeZstd: NativeZstd | null =
  "zstdCompressSync" in zlib ? (zlib as unknown as NativeZstd) : null;

/** Number of ZSTD_c_compressionLevel. */
const ZSTD_LEVEL_PARAMETER = 100;
const ZSTD_LEVEL_DEFAULT = 3;

/** Whether this runtime writes zstd; all read it. */
export function canCompressZstd(): boolean {
  return nativeZstd !== null;
}

interface ZstdReader {
  decompress(body: Uint8Array, into: Uint8Array): Uint8Array;
}

let loadedZstdReader: ZstdReader | null = null;

function zstdReader(): ZstdReader {
  loadedZstdReader ??= createRequire(import.meta.url)("fzstd") as ZstdReader;
  return loadedZstdReader;
}

/** LZ4 cannot expand a byte of its input to more than this. */
const LZ4_RATIO_MAX = 255;

export function isCodec(value: number): value is Codec {
  return value === Codec.raw || value === Codec.lz4 || value === Codec.zstd;
}

/** The body may be `plaintext` itself, not a copy. A choice of zstd needs `canCompressZstd`. */
export function compressSync(plaintext: Uint8Array, choice: CodecChoice): Compressed {
  if (choice === Codec.raw) return { codec: choice, body: plaintext };
  if (choice === Codec.lz4) return smaller(plaintext, Codec.lz4, lz4().compressSync(plaintext));
  const body = requireZstd().zstdCompressSync(plaintext, zstdOptions(plaintext, choice));
  return smaller(plaintext, Codec.zstd, body);
}

/** The same result as compressSync, made on the thread pool; `plaintext` must not change until it settles. */
export async function compress(plaintext: Uint8Array, choice: CodecChoice): Promise<Compressed> {
  if (choice === Codec.raw) return { codec: choice, body: plaintext };
  if (choice === Codec.lz4) return smaller(plaintext, Codec.lz4, await lz4().compress(plaintext));
  const zstd = requireZstd();
  const body = await new Promise<Buffer>((resolve, reject) => {
    zstd.zstdCompress(plaintext, zstdOptions(plaintext, choice), (error, made) => {
      if (error === null) resolve(made);
      else reject(error);
    });
  });
  return smaller(plaintext, Codec.zstd, body);
}

function requireZstd(): NativeZstd {
  invariant(nativeZstd !== null, `zstd in the runtime: Node ${process.versions.node} has none`);
  return nativeZstd;
}

function zstdOptions(plaintext: Uint8Array, choice: CodecChoice): ZstdOptions {
  const level = typeof choice === "number" ? ZSTD_LEVEL_DEFAULT : choice.level;
  return { params: { [ZSTD_LEVEL_PARAMETER]: level }, pledgedSrcSize: plaintext.length };
}

function smaller(plaintext: Uint8Array, codec: Codec, body: Uint8Array): Compressed {
  return body.length < plaintext.length ? { codec, body } : { codec: Codec.raw, body: plaintext };
}

/** The plaintext of `size` bytes: `body` itself when raw, else a new buffer. Throws CompressionError. */
export function decompressSync(body: Uint8Array, codec: Codec, size: number): Uint8Array {
  if (codec === Codec.raw) {
    if (body.length !== size) {
      throw new CompressionError(`raw body has ${body.length} bytes instead of ${size}`);
    }
    return body;
  }
  return codec === Codec.lz4 ? decompressLz4(body, size) : decompressZstd(body, size);
}

function decompressLz4(body: Uint8Array, size: number): Uint8Array {
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

function decompressZstd(body: Uint8Array, size: number): Uint8Array {
  const claimed = zstdContentSize(body);
  if (claimed !== size)
    throw new CompressionError(`zstd body claims ${claimed ?? "no"} bytes instead of ${size}`);
  let plaintext: Uint8Array;
  try {
    plaintext =
      nativeZstd === null
        ? zstdReader().decompress(body, new Uint8Array(size))
        : nativeZstd.zstdDecompressSync(body, { maxOutputLength: Math.max(size, 1) });
  } catch (cause) {
    throw new CompressionError("zstd body does not decompress", { cause });
  }
  if (plaintext.length !== size)
    throw new CompressionError(`zstd body gave ${plaintext.length} bytes instead of ${size}`);
  return new Uint8Array(plaintext.buffer, plaintext.byteOffset, size);
}

const ZSTD_MAGIC = 0xfd2f_b528;

/** The content size in the header of a zstd frame (RFC 8878, 3.1.1.1); null when there is none. */
function zstdContentSize(body: Uint8Array): number | null {
  if (body.length < 6) return null;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const descriptor = body[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  // bit 3 is reserved, and a dictionary is never used
  if (view.getUint32(0, true) !== ZSTD_MAGIC || (descriptor & 0x0b) !== 0) return null;
  const offset = isSingleSegment ? 5 : 6;
  const code = descriptor >> 6;
  const size = code === 0 ? Number(isSingleSegment) : 1 << code;
  if (size === 0 || offset + size > body.length) return null;
  if (size === 1) return body[offset]!;
  if (size === 2) return view.getUint16(offset, true) + 256;
  return size === 4 ? view.getUint32(offset, true) : Number(view.getBigUint64(offset, true));
}
