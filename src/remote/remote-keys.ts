/**
 * The names of a store's objects below its prefix:
 *
 *   manifest.json                        what the store is, as of its last checkpoint that went up (manifest.ts)
 *   log/<sequence, 12 digits>.slice      the log since then, in slices (log-slice.ts)
 *   chunks/<number>.<epoch>.pack         a pack, as it is on disk
 *   history/<number>.<epoch>.hist        a history segment, as it is on disk
 *   catalog/<random>.run                 a sorted run of the catalog (src/catalog/run-format.ts)
 *   readers/<reader>.<manifest number>   a reader at work: what that manifest names is kept for it
 *   readers/clock                        put by the writer to read the service's clock
 *
 * The epoch is that of the writer that gave the number: two writers that do not know of each other never meet in a name.
 */
export const MANIFEST_KEY = "manifest.json";
export const SLICE_PREFIX = "log/";
export const PACK_PREFIX = "chunks/";
export const HISTORY_PREFIX = "history/";
export const RUN_PREFIX = "catalog/";
export const READER_PREFIX = "readers/";
export const READER_CLOCK_KEY = "readers/clock";

export function sliceKey(sequence: number): string {
  return `${SLICE_PREFIX}${String(sequence).padStart(12, "0")}.slice`;
}

/** Null for other names. */
export function sliceSequence(key: string): number | null {
  const match = /^log\/(\d{12,})\.slice$/.exec(key);
  return match === null ? null : Number(match[1]);
}

/** A file whose number belongs to the epoch of its writer. */
export interface NumberedFile {
  readonly kind: "pack" | "history";
  readonly number: number;
}

/** What a path in the store's directory is; null for files that are not stored as they are. */
export function numberedFile(path: string): NumberedFile | null {
  const pack = /^chunks\/(\d{8,})\.pack$/.exec(path);
  if (pack !== null) return { kind: "pack", number: Number(pack[1]) };
  const history = /^history\/(\d{8,})\.hist$/.exec(path);
  return history === null ? null : { kind: "history", number: Number(history[1]) };
}

export function numberedKey({ kind, number }: NumberedFile, epoch: number): string {
  const name = `${String(number).padStart(8, "0")}.${epoch}`;
  return kind === "pack" ? `${PACK_PREFIX}${name}.pack` : `${HISTORY_PREFIX}${name}.hist`;
}

export function parseNumberedKey(key: string): (NumberedFile & { readonly epoch: number }) | null {
  const match = /^(?:chunks\/(\d{8,})\.(\d+)\.pack|history\/(\d{8,})\.(\d+)\.hist)$/.exec(key);
  if (match === null) return null;
  return match[1] !== undefined
    ? { kind: "pack", number: Number(match[1]), epoch: Number(match[2]) }
    : { kind: "history", number: Number(match[3]), epoch: Number(match[4]) };
}

export function readerKey(reader: string, manifestNumber: number): string {
  return `${READER_PREFIX}${reader}.${manifestNumber}`;
}

export function parseReaderKey(key: string): { reader: string; manifestNumber: number } | null {
  const match = /^readers\/([^/.]+)\.(\d+)$/.exec(key);
  return match === null ? null : { reader: match[1]!, manifestNumber: Number(match[2]) };
}
