/**
 * What a store sees of object storage (RemoteConnection), over a SimulatedBucket and without threads: both ways, awaited and
 * waiting, through one synchronous core. It fails as a client does that has repeated what could be repeated: calls fail
 * without or with effect, take effect after they were given up, and find their own first attempt in their way.
 *
 * F1. The same seed gives the same faults, as long as calls come in the same order.
 * F2. A put or delete that is late happens before one of the next calls of any client of the bucket, or at `settleLate`.
 * F3. Parts of files for lazy reads come without faults but `isDown`: src/remote/lazy-storage.test.ts has those.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { StoreError } from "../errors.ts";
import { compareKeys } from "../remote/object-key.ts";
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectVersion,
  PutCondition,
  PutOptions,
  RequestOptions,
  StoredObject,
} from "../remote/object-store.ts";
import type { StartedRequest } from "../remote/remote-client.ts";
import type { RemoteConnection } from "../remote/remote-connection.ts";
import type { ByteRange } from "../remote/remote-steps.ts";
import { conditionFailed, unavailable } from "../remote/remote-error.ts";
import { Random } from "./random.ts";
import type { SimulatedBucket } from "./simulated-object-store.ts";

/** Shares of calls, 0 to 1. */
export interface ClientFaults {
  /** Fails without effect. */
  readonly failBefore?: number;
  /** Takes effect, and fails. */
  readonly loseAnswer?: number;
  /** A put with a condition takes effect, and says CONDITION_FAILED (B3). */
  readonly meetOneself?: number;
  /** Fails, and a put or delete takes effect some time later. */
  readonly late?: number;
  /** Awaited calls take up to so many turns of the event loop; 1 by default. */
  readonly turnsMax?: number;
}

export interface SimulatedCall {
  readonly op: "get" | "put" | "list" | "delete";
  /** Of a listing, the prefix. */
  readonly keys: readonly string[];
}

export class SimulatedRemoteClient implements RemoteConnection {
  readonly description = "simulated://bucket";
  readonly bucket: SimulatedBucket;
  faults: ClientFaults;
  /** While true every call fails without effect. */
  isDown = false;
  requestCount = 0;
  readonly calls: SimulatedCall[] = [];
  /** Called before each call takes effect; may throw. */
  onCall: (call: SimulatedCall) => void = () => {};
  private readonly random: Random;
  private isClosed = false;
  private readonly late: (() => void)[] = [];

  constructor(
    bucket: SimulatedBucket,
    options: { readonly seed?: number; readonly faults?: ClientFaults } = {},
  ) {
    this.bucket = bucket;
    this.random = new Random(options.seed ?? 1);
    this.faults = options.faults ?? {};
  }

  getSync(key: string, { range }: { readonly range?: ByteRange } = {}): StoredObject | null {
    return this.perform({ op: "get", keys: [key] }, () => {
      const object = this.bucket.objects.get(key);
      if (object === undefined) return null;
      const { offset, length } = range ?? { offset: 0, length: object.body.byteLength };
      return { etag: object.etag, body: object.body.slice(offset, offset + length) };
    });
  }

  getManySync(
    requests: readonly { readonly key: string; readonly range?: ByteRange }[],
  ): (StoredObject | null)[] {
    return requests.map(({ key, range }) =>
      this.getSync(key, range === undefined ? {} : { range }),
    );
  }

  putSync(
    key: string,
    body: Uint8Array,
    { condition }: { readonly condition?: PutCondition } = {},
  ): ObjectVersion {
    const bytes = body.slice();
    const isConditional = condition !== undefined;
    return this.perform(
      { op: "put", keys: [key] },
      () => {
        const object = this.bucket.objects.get(key);
        const action = `put object "${key}"`;
        if (condition !== undefined && "absent" in condition && object !== undefined)
          throw conditionFailed(action, "there is one already");
        if (condition !== undefined && "etag" in condition && object?.etag !== condition.etag)
          throw conditionFailed(action, "another one has replaced it");
        return this.bucket.store(key, bytes);
      },
      isConditional,
    );
  }

  listSync(prefix: string, { startAfter = "" }: ListOptions = {}): ListedObject[] {
    return this.perform({ op: "list", keys: [prefix] }, () =>
      this.bucket
        .keys(prefix)
        .filter((key) => compareKeys(key, startAfter) > 0)
        .map((key) => {
          const { body, modifiedMs } = this.bucket.objects.get(key)!;
          return { key, size: body.byteLength, modifiedMs };
        }),
    );
  }

  deleteSync(keys: readonly string[]): void {
    this.perform({ op: "delete", keys }, () => {
      for (const key of keys) this.bucket.objects.delete(key);
    });
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    return this.later(options, () => this.getSync(key, options));
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    return this.later(options, () => this.putSync(key, body, options));
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    yield* await this.later(options, () => this.listSync(prefix, options));
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    await this.later(options, () => this.deleteSync(keys));
  }

  startGet(
    key: string,
    range: ByteRange | undefined,
    settled: (error: Error | null, object: StoredObject | null) => void,
  ): StartedRequest {
    let isOver = false;
    const settle = (): void => {
      if (isOver) return;
      isOver = true;
      this.started.delete(settle);
      let object: StoredObject | null;
      const { faults } = this;
      this.faults = {}; // F3
      try {
        object = this.getSync(key, range === undefined ? {} : { range });
      } catch (error) {
        settled(error as Error, null);
        return;
      } finally {
        this.faults = faults;
      }
      settled(null, object);
    };
    this.started.add(settle);
    setImmediate(settle);
    const cancel = (): void => {
      isOver = true;
      this.started.delete(settle);
    };
    return { cancel, keepAlive: () => {} };
  }

  private readonly started = new Set<() => void>();

  waitSync(isDone: () => boolean): boolean {
    while (!isDone()) {
      const [settle] = this.started;
      if (settle === undefined) return false;
      settle();
    }
    return true;
  }

  poll(): void {}

  /** A store's end; the bucket goes on. */
  close(): void {
    this.isClosed = true;
  }

  /** What was late happens. */
  settleLate(): void {
    for (const effect of this.late.splice(0)) effect();
  }

  private async later<T>({ signal }: RequestOptions, call: () => T): Promise<T> {
    const turns = this.random.integer(1, this.faults.turnsMax ?? 1);
    for (let turn = 0; turn < turns; turn++) await nextTurn();
    if (signal?.aborted === true) {
      // Given up while it was under way: done already, done later, or never.
      const dice = this.random.next();
      if (dice < 0.4) attempt(call);
      else if (dice < 0.7) this.late.push(() => attempt(call));
      throw signal.reason;
    }
    return call();
  }

  private perform<T>(call: SimulatedCall, effect: () => T, isConditional = false): T {
    this.requestCount++;
    if (this.isClosed)
      throw new StoreError("STORE_CLOSED", "Cannot reach object storage: its client is closed");
    this.calls.push(call);
    if (this.late.length > 0 && this.random.chance(0.3)) this.late.shift()!();
    const what = `${call.op} ${call.keys.join(", ")}`;
    if (this.isDown) throw unavailable(what, "the service is down");
    this.onCall(call);
    const { failBefore, loseAnswer, meetOneself, late } = this.faults;
    if (this.happens(failBefore)) throw unavailable(what, "the service fails");
    const changes = call.op === "put" || call.op === "delete";
    if (changes && this.happens(late)) {
      this.late.push(() => attempt(effect));
      throw unavailable(what, "no answer");
    }
    const result = effect();
    if (this.happens(loseAnswer)) throw unavailable(what, "the answer was lost");
    if (isConditional && this.happens(meetOneself)) throw conditionFailed(what, "it was there");
    return result;
  }

  private happens(share: number | undefined): boolean {
    return share !== undefined && share > 0 && this.random.chance(share);
  }
}

/** Nobody hears how it went. */
function attempt(effect: () => unknown): void {
  try {
    effect();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
}
