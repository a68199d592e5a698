/**
 * A program for the worker thread of `RemoteClient`: the object store of a URL, that another thread holds, breaks and counts
 * through shared memory.
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
} from "../remote/object-store.ts";
import { openObjectStore as open } from "../remote/open-object-store.ts";

const COUNTERS = {
  held: 0,
  requests: 1,
  cancelled: 2,
  failures: 3,
  truncations: 4,
  deaths: 5,
  bytes: 6,
  listed: 7,
  corruptions: 8,
  hangs: 9,
} as const;

/** Both threads' side of what the store is told and tells. */
export class ObjectStoreControl {
  readonly memory: SharedArrayBuffer;
  private readonly counters: Int32Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(64)) {
    this.memory = memory;
    this.counters = new Int32Array(memory);
  }

  /** For the options of a `RemoteClient`. */
  get program(): { readonly module: string; readonly options: unknown } {
    return { module: import.meta.url, options: { control: this.memory } };
  }

  /** Requests wait, once counted, until `release`. */
  hold(): void {
    this.set("held", 1);
  }

  release(): void {
    this.set("held", 0);
  }

  /** The next gets fail with REMOTE_UNAVAILABLE. */
  failNext(count: number): void {
    this.set("failures", count);
  }

  /** The next gets lose their last byte. */
  truncateNext(count: number): void {
    this.set("truncations", count);
  }

  /** The next gets have a byte changed. */
  corruptNext(count: number): void {
    this.set("corruptions", count);
  }

  /** Listings show this many objects, whatever there is. */
  showObjects(count: number): void {
    this.set("listed", count);
  }

  /** The thread stands still at the next get. */
  hangNext(): void {
    this.set("hangs", 1);
  }

  /** The thread ends at the next get, as if something in it had crashed. */
  dieNext(): void {
    this.set("deaths", 1);
  }

  get(counter: keyof typeof COUNTERS): number {
    return Atomics.load(this.counters, COUNTERS[counter]);
  }

  set(counter: keyof typeof COUNTERS, value: number): void {
    Atomics.store(this.counters, COUNTERS[counter], value);
  }

  add(counter: keyof typeof COUNTERS, value: number): number {
    return Atomics.add(this.counters, COUNTERS[counter], value);
  }

  /** Resolves once the counter is down to `value`. */
  async fallen(counter: keyof typeof COUNTERS, value: number): Promise<void> {
    while (this.get(counter) > value) await turn();
  }

  /** Resolves once the counter has reached `value`. */
  async reached(counter: keyof typeof COUNTERS, value: number): Promise<void> {
    while (this.get(counter) < value) await turn();
  }
}

/** Another turn of the event loop, which leaves the processor to the other threads. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 1);
  });
}

class HeldObjectStore implements ObjectStore {
  readonly description: string;
  private readonly store: ObjectStore;
  private readonly control: ObjectStoreControl;

  constructor(store: ObjectStore, control: ObjectStoreControl) {
    this.description = store.description;
    this.store = store;
    this.control = control;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    await this.pass(options.signal);
    return this.store.put(key, body, options);
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    await this.pass(options.signal);
    if (this.takes("deaths")) process.exit(1);
    if (this.takes("hangs")) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    if (this.takes("failures")) {
      throw new StoreError("REMOTE_UNAVAILABLE", `Cannot get object "${key}": as the test asked`, {
        retryable: true,
        details: { key },
      });
    }
    const object = await this.store.get(key, options);
    if (object === null) return null;
    this.control.add("bytes", object.body.byteLength);
    if (this.takes("corruptions")) object.body[object.body.byteLength >> 1]! ^= 1;
    return this.takes("truncations") ? { ...object, body: object.body.subarray(0, -1) } : object;
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    await this.pass(options.signal);
    const count = this.control.get("listed");
    if (count === 0) yield* this.store.list(prefix, options);
    for (let number = 1; number <= count; number++) {
      const key = String(number).padStart(9, "0");
      if (key > (options.startAfter ?? "")) yield { key, size: number, modifiedMs: 0 };
    }
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    await this.pass(options.signal);
    await this.store.delete(keys, options);
  }

  close(): void {
    this.store.close();
  }

  private async pass(signal: AbortSignal | undefined): Promise<void> {
    this.control.add("requests", 1);
    while (this.control.get("held") === 1) {
      if (signal?.aborted === true) this.control.add("cancelled", 1);
      signal?.throwIfAborted();
      await turn();
    }
  }

  private takes(counter: "corruptions" | "deaths" | "failures" | "hangs" | "truncations"): boolean {
    if (this.control.get(counter) <= 0) return false;
    this.control.add(counter, -1);
    return true;
  }
}

export function openObjectStore(
  url: string,
  options: { readonly control: SharedArrayBuffer },
): ObjectStore {
  return new HeldObjectStore(open(url), new ObjectStoreControl(options.control));
}
