/**
 * Repeats what fails (B5) over an object store that makes one attempt per call. How often and when: `retry.ts`.
 *
 * R1. A conditional put that fails its condition after an earlier attempt of the same call, whose answer was lost, may have
 *     failed because of that attempt. The object is read: when it holds the same bytes the put has succeeded. So bodies put with
 *     a condition hold something that only their writer can have put there, or two writers of equal bytes both succeed.
 * R2. An attempt that was given up may still take effect later. Puts without a condition are therefore only for keys under
 *     which nothing else is ever stored; what is deleted is not stored again under the same key.
 * R3. A list goes on after the last key that it yielded: none twice, none left out.
 */
import { StoreError } from "../errors.ts";
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectStore,
  ObjectVersion,
  PutOptions,
  RequestOptions,
  StoredObject,
} from "./object-store.ts";
import { type Attempt, Retry, type RetryClock, type RetryLimits } from "./retry.ts";

/** A body of this many bytes has one attempt's time; a larger one has more in proportion. */
const BYTES_PER_ATTEMPT_TIME = 8 * 1024 * 1024;

export class RetryingObjectStore implements ObjectStore {
  readonly description: string;
  private readonly store: ObjectStore;
  private readonly retry: Retry;

  constructor(store: ObjectStore, limits: RetryLimits = {}, clock?: RetryClock) {
    this.store = store;
    this.description = store.description;
    this.retry = new Retry(limits, clock);
  }

  put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    const attemptMsFactor = body.byteLength / BYTES_PER_ATTEMPT_TIME;
    return this.run(`put object "${key}"`, { ...options, attemptMsFactor }, async (attempt) => {
      const { signal, number } = attempt;
      try {
        return await this.store.put(key, body, { ...options, signal });
      } catch (error) {
        const mayBeOwn =
          number > 1 && error instanceof StoreError && error.code === "CONDITION_FAILED";
        if (!mayBeOwn) throw error;
        const there = await this.store.get(key, { signal });
        if (there === null || Buffer.compare(there.body, body) !== 0) throw error;
        return { etag: there.etag };
      }
    });
  }

  get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    const length = options.range?.length ?? 0;
    const attemptMsFactor = length / BYTES_PER_ATTEMPT_TIME;
    return this.run(`get object "${key}"`, { ...options, attemptMsFactor }, ({ signal }) =>
      this.store.get(key, { ...options, signal }),
    );
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    let last = options.startAfter;
    let page: ListPage | null = null;
    try {
      for (;;) {
        const next: IteratorResult<ListedObject> = await this.run(
          `list objects "${prefix}"`,
          options,
          ({ signal, number }) => {
            // A list that failed is at its end, and would say so.
            if (number > 1) page?.end();
            if (page === null || number > 1) page = this.openList(prefix, last);
            return page.next(signal);
          },
        );
        if (next.done === true) return;
        last = next.value.key;
        yield next.value;
      }
    } finally {
      endPage(page);
    }
  }

  delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    const attemptMsFactor = keys.length / 1000;
    return this.run(
      `delete ${keys.length} objects`,
      { ...options, attemptMsFactor },
      ({ signal }) => this.store.delete(keys, { signal }),
    );
  }

  close(): void {
    this.store.close();
  }

  private openList(prefix: string, startAfter: string | undefined): ListPage {
    const controller = new AbortController();
    const list = this.store.list(prefix, {
      signal: controller.signal,
      ...(startAfter === undefined ? {} : { startAfter }),
    });
    const iterator = list[Symbol.asyncIterator]();
    return {
      async next(signal) {
        const onAbort = (): void => controller.abort(signal.reason);
        signal.addEventListener("abort", onAbort);
        try {
          return await iterator.next();
        } finally {
          signal.removeEventListener("abort", onAbort);
        }
      },
      end: () => controller.abort(),
    };
  }

  private run<T>(
    action: string,
    options: RequestOptions & { readonly attemptMsFactor?: number },
    request: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    return this.retry.run({ ...options, action: `${action} in ${this.description}` }, request);
  }
}

/** A list under way in the store below; its own signal outlives the attempts of single steps. */
interface ListPage {
  next(signal: AbortSignal): Promise<IteratorResult<ListedObject>>;
  end(): void;
}

function endPage(page: ListPage | null): void {
  page?.end();
}
