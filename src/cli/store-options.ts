/** Options of commands that make or change a store: where its catalog is kept, how new data is compressed. */
import { type Command, Option } from "commander";
import type { Backend } from "../catalog/backends.ts";
import type { Compression } from "../store/compression-option.ts";
import { UsageError } from "./errors.ts";

/** As in src/catalog/backends.ts, which loads what help does not need. */
export const BACKEND_NAMES: readonly Backend[] = ["lmdb", "leveldb", "memory"];

/** As commander gives them. */
export interface StoreWords {
  readonly backend?: Backend;
  readonly compression?: string;
}

export function addStoreOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--backend <name>", "of a store made by this: where its catalog is kept").choices(
        BACKEND_NAMES,
      ),
    )
    .option(
      "--compression <codec>",
      "of a store made by this: lz4, zstd, zstd:1 to zstd:22 or none (default: lz4)",
    );
}

/** Throws UsageError for a compression that is none. */
export async function readStoreOptions({
  backend,
  compression,
}: StoreWords): Promise<{ backend?: Backend; compression?: Compression }> {
  const { isCompression } = await import("../store/compression-option.ts");
  if (compression !== undefined && !isCompression(compression))
    throw new UsageError(
      `Cannot use compression "${compression}": it is none, lz4, zstd or zstd:1 to zstd:22`,
    );
  return {
    ...(backend === undefined ? {} : { backend }),
    ...(compression === undefined ? {} : { compression }),
  };
}
