/** What a store is, as its header and its catalog's files say; what it holds is in statistics.ts. */
import type { Backend } from "../catalog/backends.ts";
import type { Compression } from "./compression-option.ts";
import type { Engine } from "./engine.ts";
import { partitionCount } from "./store-header.ts";

export interface StoreInfo {
  /** 32 hex characters, for ever the same. */
  readonly storeId: string;
  readonly createdAt: Date;
  /** Where the catalog is kept. */
  readonly backend: Backend;
  /** Bytes on disk of the catalog, an estimate. */
  readonly catalogBytes: number;
  /** Of new chunks and history, as recorded. */
  readonly compression: Compression;
  readonly isEncrypted: boolean;
  /** See docs/partitions.md; 1 for most stores. */
  readonly partitions: number;
}

export function storeInfo(engine: Engine): StoreInfo {
  engine.assertOpen();
  const { storeId, createdAt, backend, compression, encryption } = engine.header;
  return {
    storeId: Buffer.from(storeId).toString("hex"),
    createdAt: new Date(createdAt),
    backend,
    catalogBytes: engine.state.catalog.store.estimatedSize(),
    compression: compression ?? "lz4",
    isEncrypted: encryption !== null,
    partitions: partitionCount(engine.header),
  };
}
