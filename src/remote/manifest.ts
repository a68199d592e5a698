/**
 * The object `manifest.json`: what a store in object storage is, as of the last checkpoint that went up. With the slices of the
 * log from `logStart` on it is the whole store. Two lines, as `store.json`: JSON, then "crc64nvme " and 16 hex characters, the
 * CRC-64/NVME of the first line.
 *
 * N1. It is replaced only by conditional put: whoever replaces it has seen the one before. A new writer takes the epoch
 *     after the highest that it found, in the manifest and in the fences of the log.
 * N2. Everything that it names was stored before it.
 * N3. `garbage` lists objects that no newer manifest needs; they stay until nobody can be reading by an older one.
 */
import { StoreError } from "../errors.ts";
import { crc64Into, CRC64_SIZE } from "../storage/crc64.ts";
import { MANIFEST_KEY, type NumberedFile, numberedKey } from "./remote-keys.ts";

export const MANIFEST_FORMAT_VERSION = 1;

/** A sorted run of the catalog. */
export interface StoredRun {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  readonly isBase: boolean;
}

/** Which state of the catalog: see RecordingKeyValueStore. */
export interface StoredMark {
  readonly sequence: number;
  /** Hex. */
  readonly nonce: string;
}

/** Files from this number on, up to the next entry's, have names with this epoch. */
export interface EpochStart {
  readonly from: number;
  readonly epoch: number;
}

export interface GarbageEntry {
  readonly key: string;
  /** The number of the first manifest that does not need it. */
  readonly sinceNumber: number;
  readonly sinceMs: number;
}

export interface Manifest {
  /** Grows by 1 with each manifest of the store. */
  readonly number: number;
  /** Hex. */
  readonly storeId: string;
  readonly atMs: number;
  readonly writer: {
    readonly epoch: number;
    /** Hex. */
    readonly id: string;
    readonly name: string;
    /** Hex: the directory that the writer works in; another one is another machine's, or a copy. */
    readonly replica: string;
  };
  /** The contents of the file store.json. */
  readonly header: string;
  readonly checkpointLsn: number;
  /** Null before the first checkpoint: the log is all there is. */
  readonly mark: StoredMark | null;
  /** Oldest first; the first one is the base. */
  readonly runs: readonly StoredRun[];
  /** The first slice that is needed after the checkpoint. */
  readonly logStart: number;
  readonly packEpochs: readonly EpochStart[];
  readonly historyEpochs: readonly EpochStart[];
  readonly garbage: readonly GarbageEntry[];
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  const line = JSON.stringify({
    bough: "manifest",
    formatVersion: MANIFEST_FORMAT_VERSION,
    ...manifest,
  });
  return new TextEncoder().encode(`${line}\ncrc64nvme ${checksum(line)}\n`);
}

/** Throws CORRUPT_REMOTE or STORE_FORMAT. */
export function decodeManifest(body: Uint8Array): Manifest {
  const [line = "", check, end] = Buffer.from(body).toString().split("\n");
  if (check !== `crc64nvme ${checksum(line)}` || end !== "")
    throw new StoreError(
      "CORRUPT_REMOTE",
      `Cannot read object "${MANIFEST_KEY}": its checksum does not fit`,
    );
  const json = JSON.parse(line) as Manifest & { bough: string; formatVersion: number };
  if (json.bough !== "manifest")
    throw new StoreError(
      "CORRUPT_REMOTE",
      `Cannot read object "${MANIFEST_KEY}": it is no manifest`,
    );
  if (json.formatVersion > MANIFEST_FORMAT_VERSION)
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read object "${MANIFEST_KEY}": its format version is ${json.formatVersion}, this bough reads up to ${MANIFEST_FORMAT_VERSION}; use a newer bough`,
    );
  return json;
}

/** The object that holds a file of the store as it is on disk. */
export function keyOfFile(manifest: Manifest, file: NumberedFile): string {
  const starts = file.kind === "pack" ? manifest.packEpochs : manifest.historyEpochs;
  return numberedKey(file, numberedEpoch(starts, file.number));
}

export function numberedEpoch(starts: readonly EpochStart[], number: number): number {
  return starts.findLast(({ from }) => from <= number)?.epoch ?? 0;
}

function checksum(line: string): string {
  const bytes = new TextEncoder().encode(line);
  const check = new Uint8Array(CRC64_SIZE);
  crc64Into(bytes, 0, bytes.length, check, 0);
  return Buffer.from(check).reverse().toString("hex");
}
