/**
 * A repair source that is the store's copy in object storage: packs and history segments are objects, the log is put together from
 * slices, the catalog is read from its runs, which are fetched as wholes when they are first asked for.
 *
 * Q1. Nothing is written there: the writer goes on undisturbed, whoever it is.
 * Q2. A header from there has no place to upload to, unless the store needs one to find its files: the copy there may be another
 *     directory's by now, and a store with that one's name would pass for it.
 */
import { RunReader } from "../catalog/run-reader.ts";
import { RunsKeyValueStore } from "../catalog/run-key-value.ts";
import type { KeyValueEntry } from "../catalog/key-value.ts";
import type { RepairSource, SourceRange } from "../integrity/repair-source.ts";
import type { LogPiece } from "../log/log-tail.ts";
import { segmentPath } from "../log/segment-files.ts";
import { readManifest } from "../remote/claim.ts";
import { downloadFile, readSlices } from "../remote/download.ts";
import { keyOfFile, type Manifest } from "../remote/manifest.ts";
import { numberedFile, RUN_PREFIX, SLICE_PREFIX, sliceSequence } from "../remote/remote-keys.ts";
import { getObject, listObjects, type RemoteProcedure, runAsync } from "../remote/remote-steps.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { REMOTE_OBJECTS_FILE, remoteNotFound } from "./remote-objects.ts";
import { type RemoteOptions, type ResolvedRemote, resolveRemote } from "./remote-options.ts";
import { HEADER_FILE, headerText, parseHeader } from "./store-header.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import type { StoreOptions } from "./store-options.ts";

type Connection = ReturnType<ResolvedRemote["connect"]>;

/** Begins the paths of runs, which are in the store's directory while the source is open. */
const RUN_PATH = "upload/repair-";

export interface RemoteSourceOptions extends Pick<StoreOptions, "key" | "keyFile" | "environment"> {
  /** Of the store to be repaired: runs are kept there meanwhile. */
  readonly storage: Storage;
  readonly remote?: Omit<RemoteOptions, "url"> | undefined;
}

export class RemoteRepairSource implements RepairSource {
  readonly description: string;
  readonly #client: Connection;
  readonly #manifest: Manifest;
  readonly #options: RemoteSourceOptions;
  readonly #files: StorageFile[] = [];
  #catalog: RunsKeyValueStore | null = null;
  #segments: Map<string, LogPiece[]> | null = null;

  private constructor(
    url: string,
    client: Connection,
    manifest: Manifest,
    options: RemoteSourceOptions,
  ) {
    this.description = `"${url}"`;
    this.#client = client;
    this.#manifest = manifest;
    this.#options = options;
  }

  /** Throws REMOTE_NOT_FOUND, REMOTE_UNAVAILABLE and what else keeps it from being reached. */
  static async open(url: string, options: RemoteSourceOptions): Promise<RemoteRepairSource> {
    const client = resolveRemote({ ...options.remote, url }).connect();
    try {
      const stored = await runAsync(readManifest(), client, new AbortController().signal);
      if (stored === null) throw remoteNotFound(url);
      return new RemoteRepairSource(url, client, stored.manifest, options);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  async read(path: string, range?: SourceRange): Promise<Uint8Array | null> {
    if (path === HEADER_FILE) return cut(this.#header(), range);
    const file = numberedFile(path);
    if (file !== null) {
      const object = await this.#run(getObject(keyOfFile(this.#manifest, file), range));
      return object?.body ?? null;
    }
    this.#segments ??= await this.#run(this.#readLog());
    const pieces = this.#segments.get(path);
    return pieces === undefined ? null : cut(joined(pieces), range);
  }

  async catalogEntry(key: Uint8Array): Promise<Uint8Array | null> {
    const catalog = await this.#openCatalog();
    const value = catalog?.get(key);
    return value === undefined ? null : Uint8Array.from(value);
  }

  async *catalogEntries(): AsyncGenerator<KeyValueEntry> {
    const catalog = await this.#openCatalog();
    if (catalog !== null)
      yield* catalog.range({ start: Uint8Array.of(0), end: Uint8Array.of(0xff) });
  }

  close(): void {
    this.#catalog?.close();
    for (const file of this.#files) file.closeSync();
    this.#deleteRuns();
    this.#client.close();
  }

  #run<T>(procedure: RemoteProcedure<T>): Promise<T> {
    return runAsync(procedure, this.#client, new AbortController().signal);
  }

  /** Q2. */
  #header(): Uint8Array {
    const { remote, ...header } = parseHeader(this.#manifest.header);
    const needsIt = this.#options.storage.existsSync(REMOTE_OBJECTS_FILE);
    const kept = remote === undefined ? {} : { remote: { ...remote, url: null } };
    return new TextEncoder().encode(
      needsIt ? this.#manifest.header : headerText({ ...header, ...kept }),
    );
  }

  /** All slices that are there: those before the manifest's first one may have what a damaged segment has lost. */
  *#readLog(): RemoteProcedure<Map<string, LogPiece[]>> {
    const segments = new Map<string, LogPiece[]>();
    const numbers = (yield* listObjects(SLICE_PREFIX)).map(({ key }) => sliceSequence(key));
    const known = new Set(numbers);
    let first = this.#manifest.logStart;
    while (known.has(first - 1)) first--;
    for (const { pieces } of yield* readSlices(first))
      for (const piece of pieces) {
        const path = segmentPath(piece.segment);
        const earlier = segments.get(path);
        if (earlier === undefined) segments.set(path, [piece]);
        else earlier.push(piece);
      }
    return segments;
  }

  /** Null when its store has none yet, or when the key does not open it. */
  async #openCatalog(): Promise<RunsKeyValueStore | null> {
    const { runs, header } = this.#manifest;
    if (this.#catalog !== null || runs.length === 0) return this.#catalog;
    const { storage, remote: _, ...keys } = this.#options;
    const parsed = parseHeader(header);
    const master = parsed.encryption === null ? null : givenMasterKey(keys);
    const { storeId } = parsed;
    const cipher = openCipher(parsed, master, keys);
    this.#deleteRuns();
    const readers: RunReader[] = [];
    for (const { key } of runs) {
      const path = `${RUN_PATH}${key.slice(RUN_PREFIX.length)}`;
      await this.#run(downloadFile(storage, key, path));
      const file = storage.openFileSync(path, { mode: "read" });
      this.#files.push(file);
      readers.push(RunReader.open(file, { storeId, cipher }));
    }
    return (this.#catalog = new RunsKeyValueStore(readers));
  }

  #deleteRuns(): void {
    const { storage } = this.#options;
    const [directory = "", prefix = ""] = RUN_PATH.split("/");
    for (const name of storage.listSync(directory))
      if (name.startsWith(prefix)) storage.deleteSync(`${directory}/${name}`);
  }
}

/** Where a piece is missing, zeros are: no record is there for whoever looks for one. */
function joined(pieces: readonly LogPiece[]): Uint8Array {
  const size = Math.max(...pieces.map(({ offset, bytes }) => offset + bytes.length));
  const bytes = new Uint8Array(size);
  for (const piece of pieces) bytes.set(piece.bytes, piece.offset);
  return bytes;
}

function cut(bytes: Uint8Array, range: SourceRange | undefined): Uint8Array {
  return range === undefined ? bytes : bytes.subarray(range.offset, range.offset + range.length);
}
