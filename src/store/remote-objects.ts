/**
 * The file `remote-objects.json` of a store that was opened from object storage for writing: the packs and history segments
 * that are there and not in the directory. Two lines, as `store.json`.
 *
 * R1. Written once, before `store.json`: what the store stores later has numbers that none of these have.
 * R2. An object of the list may have been deleted since, when nothing needed it any more.
 */
import { StoreError } from "../errors.ts";
import type { LazyObjects } from "../remote/lazy-storage.ts";
import type { Manifest } from "../remote/manifest.ts";
import { keyOfFile } from "../remote/manifest.ts";
import { parseNumberedKey } from "../remote/remote-keys.ts";
import { historyPath } from "../checkpoint/history-files.ts";
import { packPath } from "../page/pack-format.ts";
import { crc64Into, CRC64_SIZE } from "../storage/crc64.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";

export const REMOTE_OBJECTS_FILE = "remote-objects.json";

export interface RemoteFile {
  readonly path: string;
  readonly key: string;
  /** Bytes. */
  readonly size: number;
}

/** Those of the listed objects that the manifest's store consists of. */
export function remoteFiles(manifest: Manifest, listed: ReadonlyMap<string, number>): RemoteFile[] {
  const files: RemoteFile[] = [];
  for (const [key, size] of listed) {
    const file = parseNumberedKey(key);
    if (file === null || keyOfFile(manifest, file) !== key) continue;
    const path = file.kind === "pack" ? packPath(file.number) : historyPath(file.number);
    files.push({ path, key, size });
  }
  return files;
}

export class RemoteObjects implements LazyObjects {
  readonly #files: Map<string, RemoteFile> = new Map();
  readonly #names: Map<string, string[]> = new Map();

  constructor(files: Iterable<RemoteFile>) {
    for (const file of files) {
      if (this.#files.has(file.path)) continue;
      this.#files.set(file.path, file);
      const slash = file.path.lastIndexOf("/");
      const directory = file.path.slice(0, Math.max(slash, 0));
      const names = this.#names.get(directory);
      if (names === undefined) this.#names.set(directory, [file.path.slice(slash + 1)]);
      else names.push(file.path.slice(slash + 1));
    }
  }

  objectFor(path: string): RemoteFile | null {
    return this.#files.get(path) ?? null;
  }

  /** Each path once: the first of those that were given. */
  files(): RemoteFile[] {
    return [...this.#files.values()];
  }

  namesIn(directory: string): Iterable<string> {
    return this.#names.get(directory) ?? [];
  }
}

export function writeRemoteObjects(storage: Storage, files: readonly RemoteFile[]): void {
  const line = JSON.stringify({ bough: "remote-objects", formatVersion: 1, files });
  const text = `${line}\ncrc64nvme ${checksum(line)}\n`;
  writeFileAtomicSync(storage, REMOTE_OBJECTS_FILE, new TextEncoder().encode(text));
}

/** Null when the store has all its files in the directory. Throws CORRUPT_HEADER. */
export function readRemoteObjects(storage: Storage): RemoteObjects | null {
  if (!storage.existsSync(REMOTE_OBJECTS_FILE)) return null;
  const text = Buffer.from(readFileSync(storage, REMOTE_OBJECTS_FILE)).toString();
  const [line = "", check] = text.split("\n");
  if (check !== `crc64nvme ${checksum(line)}`)
    throw new StoreError(
      "CORRUPT_HEADER",
      `Cannot read "${REMOTE_OBJECTS_FILE}": its checksum does not fit; open the store from object storage into another directory`,
    );
  return new RemoteObjects((JSON.parse(line) as { files: RemoteFile[] }).files);
}

function checksum(line: string): string {
  const bytes = new TextEncoder().encode(line);
  const check = new Uint8Array(CRC64_SIZE);
  crc64Into(bytes, 0, bytes.length, check, 0);
  return Buffer.from(check).reverse().toString("hex");
}

export function remoteNotFound(url: string): StoreError {
  return new StoreError(
    "REMOTE_NOT_FOUND",
    `Cannot open "${url}": there is no store; check the URL, or make a store upload there with "bough remote set"`,
  );
}
