/**
 * Object storage in a directory: on a local disk, on NFS, in tests. An object is the file of its key, so that it can be
 * copied to S3 and back as it is. How files come and go is in `src/storage/object-directory.ts` (O1-O4).
 *
 * An etag is a hash of the content: times of change are too coarse to tell two puts apart. That of a part, for which
 * the file would have to be read as a whole, is no condition for a put.
 */
import { createHash } from "node:crypto";

import { StoreError, type StoreErrorCode } from "../errors.ts";
import { ObjectDirectory, type ObjectReplacer } from "../storage/object-directory.ts";
import { checkObjectKey, compareKeys } from "./object-key.ts";
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectStore,
  ObjectVersion,
  PutCondition,
  PutOptions,
  RequestOptions,
  StoredObject,
} from "./object-store.ts";
import { conditionFailed, throwIfAborted, unavailable } from "./remote-error.ts";

/** Objects that one holding of the lock deletes. */
const DELETE_BATCH = 100;

/** One attempt per call: `retrying-object-store.ts` repeats. The directory is made by the first put. */
export class DirectoryObjectStore implements ObjectStore {
  readonly description: string;
  private readonly directory: ObjectDirectory;

  constructor(directory: string, description: string) {
    this.directory = new ObjectDirectory(directory);
    this.description = description;
  }

  put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    checkObjectKey(key);
    return this.attempt(`put object "${key}"`, options, async (action) => {
      const temporary = await this.directory.write(body);
      try {
        throwIfAborted(action, options.signal);
        await this.place({ key, temporary, action, ...options });
      } finally {
        await this.directory.discard(temporary);
      }
      return { etag: etagOf(body) };
    });
  }

  get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    checkObjectKey(key);
    return this.attempt(`get object "${key}"`, options, async () => {
      const file = await this.directory.read(key, options.range);
      if (file === null) return null;
      const whole = file.bytes.byteLength === file.size;
      return { body: file.bytes, etag: whole ? etagOf(file.bytes) : `part-${file.mark}` };
    });
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const action = `list objects "${prefix}"`;
    const directory = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    if (directory !== "") checkObjectKey(directory.slice(0, -1));
    const keys = this.walk(directory, { prefix, startAfter: options.startAfter ?? "" });
    for (;;) {
      const next = await this.attempt(action, options, () => keys.next());
      if (next.done === true) return;
      yield next.value;
    }
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    for (const key of keys) checkObjectKey(key);
    for (let start = 0; start < keys.length; start += DELETE_BATCH) {
      const batch = keys.slice(start, start + DELETE_BATCH);
      await this.attempt(`delete ${keys.length} objects`, options, () =>
        this.directory.exclusively(async (replacer) => {
          for (const key of batch) await replacer.delete(key);
        }, options.signal),
      );
    }
  }

  close(): void {}

  private async place(put: {
    readonly key: string;
    readonly temporary: string;
    readonly action: string;
    readonly condition?: PutCondition;
    readonly signal?: AbortSignal;
  }): Promise<void> {
    const { key, temporary, action, condition, signal } = put;
    if (condition === undefined || "absent" in condition) {
      if (await this.directory.create(key, temporary)) return;
      if (condition !== undefined) throw conditionFailed(action, "there is one already");
    }
    await this.directory.exclusively(async (replacer: ObjectReplacer) => {
      if (condition !== undefined && "etag" in condition) {
        const file = await this.directory.read(key);
        if (file === null) throw conditionFailed(action, "it is not there any more");
        if (etagOf(file.bytes) !== condition.etag)
          throw conditionFailed(action, "another one has replaced it");
      }
      await replacer.replace(key, temporary);
    }, signal);
  }

  /** Depth first in the order of keys: a directory sorts as its name with the "/" that follows. */
  private async *walk(
    directory: string,
    range: { readonly prefix: string; readonly startAfter: string },
  ): AsyncGenerator<ListedObject, undefined> {
    const { prefix, startAfter } = range;
    const paths = (await this.directory.names(directory))
      .map(({ name, isDirectory }) => directory + name + (isDirectory ? "/" : ""))
      .sort(compareKeys);
    for (const path of paths) {
      if (path.endsWith("/")) {
        const wanted = path.startsWith(prefix) || prefix.startsWith(path);
        const later = startAfter.startsWith(path) || compareKeys(path, startAfter) > 0;
        if (wanted && later) yield* this.walk(path, range);
      } else if (path.startsWith(prefix) && compareKeys(path, startAfter) > 0) {
        const status = await this.directory.status(path);
        if (status !== null) yield { key: path, ...status };
      }
    }
    return undefined;
  }

  private async attempt<T>(
    action: string,
    options: RequestOptions,
    run: (action: string) => Promise<T>,
  ): Promise<T> {
    const whole = `${action} in ${this.description}`;
    throwIfAborted(whole, options.signal);
    try {
      return await run(whole);
    } catch (error) {
      throwIfAborted(whole, options.signal);
      throw explain(whole, error);
    }
  }
}

function etagOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 32);
}

/** Failures of the disk, in the words of object storage. */
const UNAVAILABLE: ReadonlySet<StoreErrorCode> = new Set([
  "IO",
  "DISK_FULL",
  "FILE_NOT_FOUND",
  "STORE_LOCKED",
]);
const DENIED: ReadonlySet<StoreErrorCode> = new Set(["PERMISSION", "FILE_EXISTS"]);
/** What the disk will say again: a name stands for a file where a directory should be, or the other way around. */
const LASTING: ReadonlySet<unknown> = new Set(["ENOTDIR", "EISDIR", "ENAMETOOLONG", "EINVAL"]);

function explain(action: string, error: unknown): unknown {
  if (!(error instanceof StoreError)) return error;
  if (DENIED.has(error.code) || LASTING.has(error.details["systemCode"]))
    return new StoreError("REMOTE_DENIED", `Cannot ${action}: ${error.message}`, { cause: error });
  return UNAVAILABLE.has(error.code) ? unavailable(action, error.message, error) : error;
}
