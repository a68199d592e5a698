/**
 * Everything the engine asks of object storage: S3 (`s3-object-store.ts`), a directory (`directory-object-store.ts`),
 * and one in memory that misbehaves on demand (`src/testing/simulated-object-store.ts`).
 *
 * Keys are relative to the place that was opened, with "/" between names.
 *
 * B1. An object is whole or not there: a reader never sees part of a put.
 * B2. Once a put or delete has returned, every later get, head and list, from any machine, shows its effect.
 * B3. A conditional put takes effect only when its condition holds at that moment; of racing puts with a condition that
 *     only one can meet, at most one takes effect. CONDITION_FAILED says that it did not: after a retry within the
 *     same call this may mean "my own earlier attempt did it", so the caller compares what is there.
 * B4. Bodies are checked on their way: a put carries its CRC-64/NVME where the service can verify it, a get that comes short or
 *     does not match fails and is repeated. What was stored wrongly is found by the formats' own checksums.
 * B5. A failure that may pass is repeated within the call, with growing pauses and jitter, as long as its limits allow; then
 *     it is a StoreError, `retryable`. It ends at once when `signal` is aborted: the signal's reason is thrown, as CANCELLED or
 *     TIMEOUT where the platform made it up.
 */
export interface ObjectStore {
  /** As the user named it: "s3://bucket/prefix", "file:///path". For messages; never holds credentials. */
  readonly description: string;
  /** Stores an object. Throws CONDITION_FAILED when `condition` does not hold. Large bodies go up in parts. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<ObjectVersion>;
  /** The object, or the part of it in `range`; null when there is none. A range past the end comes back short. */
  get(key: string, options?: GetOptions): Promise<StoredObject | null>;
  /** Objects whose keys begin with `prefix`, in order of their keys as bytes. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject>;
  /** Deletes objects; missing ones are no error. */
  delete(keys: readonly string[], options?: RequestOptions): Promise<void>;
  /** Ends idle connections. Calls under way fail. */
  close(): void;
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
}

/** `absent`: no object has the key. An etag: the object is still the one that a put or get returned. */
export type PutCondition = { readonly absent: true } | { readonly etag: string };

export interface PutOptions extends RequestOptions {
  readonly condition?: PutCondition;
  /** The body's buffer may be handed on instead of copied; afterwards it is empty for the caller. */
  readonly transfer?: boolean;
}

export interface GetOptions extends RequestOptions {
  /** Bytes. The etag of a part may not do as a condition. */
  readonly range?: { readonly offset: number; readonly length: number };
}

export interface ListOptions extends RequestOptions {
  /** Only keys after this one. */
  readonly startAfter?: string;
}

export interface ObjectVersion {
  /** Differs for different contents; opaque. */
  readonly etag: string;
}

export interface StoredObject extends ObjectVersion {
  readonly body: Uint8Array;
}

export interface ListedObject {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  readonly modifiedMs: number;
}
