/**
 * Where a repair gets what this store has lost: its copy in object storage, or a copy of its directory.
 *
 * E1. Nothing that comes from a source is believed: the formats' own checksums, tags and ids decide. A source may be older than
 *     the store, incomplete or damaged; then it helps less, and does no harm.
 * E2. Rows of the catalog that change from checkpoint to checkpoint have no id that would tell their age. They are taken only
 *     from a source that has the store's own checkpoint: every whole row here is the same there.
 */
export interface RepairSource {
  /** For reports: "s3://bucket/prefix". */
  readonly description: string;
  /**
   * A file of the store by the path that it had here ("chunks/00000017.pack", "history/00000003.hist",
   * "log/0000000009.wal", "store.json"), or the part of it in `range`, shorter where the file ends; null when the source
   * does not have it. Throws what stops the repair, such as a network that is down.
   */
  read(path: string, range?: SourceRange): Promise<Uint8Array | null>;
  /** The stored value of a key of the catalog, as the key-value store holds it; null when there is none. */
  catalogEntry(key: Uint8Array): Promise<Uint8Array | null>;
  /** All entries of the catalog as of one checkpoint, for a catalog that cannot be read at all; empty when there is none. */
  catalogEntries(): AsyncIterable<{ readonly key: Uint8Array; readonly value: Uint8Array }>;
}

export interface SourceRange {
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}
