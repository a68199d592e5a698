/** How a user names what new chunks and history are compressed with: "none", "lz4", "zstd" or "zstd:<level>". */
import { StoreError } from "../errors.ts";
import {
  canCompressZstd,
  Codec,
  type CodecChoice,
  ZSTD_LEVEL_MAX,
  ZSTD_LEVEL_MIN,
} from "../page/compression.ts";

export type Compression = "none" | "lz4" | "zstd" | `zstd:${number}`;

export function isCompression(value: unknown): value is Compression {
  if (value === "none" || value === "lz4" || value === "zstd") return true;
  const level = typeof value === "string" ? /^zstd:([1-9]\d?)$/.exec(value)?.[1] : undefined;
  return level !== undefined && Number(level) >= ZSTD_LEVEL_MIN && Number(level) <= ZSTD_LEVEL_MAX;
}

/** Throws TypeError for what is none; STORE_FORMAT for what this runtime cannot write. */
export function requireCompression(what: string, value: unknown): asserts value is Compression {
  if (!isCompression(value))
    throw new TypeError(
      `${what}: ${JSON.stringify(value)} is not one of none, lz4, zstd, zstd:${ZSTD_LEVEL_MIN} to zstd:${ZSTD_LEVEL_MAX}`,
    );
  if (!isWritable(value))
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot compress with "${value}": Node ${process.versions.node} has no zstd, writing it needs Node 22.15 or newer; use that, or "lz4"`,
    );
}

/** A store that has zstd recorded goes on with lz4 where the runtime cannot write it: chunks of all codecs mix. */
export function codecOf(compression: Compression): CodecChoice {
  if (compression === "none") return Codec.raw;
  if (compression === "lz4" || !isWritable(compression)) return Codec.lz4;
  const level = compression.split(":")[1];
  return level === undefined ? Codec.zstd : { codec: Codec.zstd, level: Number(level) };
}

function isWritable(compression: Compression): boolean {
  return !compression.startsWith("zstd") || canCompressZstd();
}
