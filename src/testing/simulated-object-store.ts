/**
 * Object storage in memory that misbehaves on demand, the same way for the same seed. Strongly consistent, as B1 to B3 demand:
 * what it does beyond them is fail. Like the others below the retrying one it makes one attempt per call.
 *
 * Machines that share the storage are `SimulatedObjectStore`s over one `SimulatedBucket`; each has faults and counters of its own.
 */
import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";

import { checkObjectKey, compareKeys } from "../remote/object-key.ts";
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
} from "../remote/object-store.ts";
import { conditionFailed, throwIfAborted, unavailable } from "../remote/remote-error.ts";
import { Random } from "./random.ts";

const LATE_TURNS_MAX = 50;

/** Shares of calls, 0 to 1. */
export interface SimulatedFaults {
  /** The call fails and has done nothing. */
  readonly failBefore?: number;
  /** The call is done, and its answer is lost. */
  readonly loseAnswer?: number;
  /** The call does not answer until its signal is aborted; half of the time it is done nevertheless. */
  readonly hang?: number;
  /** The call does not answer until its signal is aborted, and is done some turns of the event loop after that. */
  readonly late?: number;
  /** A get ends early, and the connection shows it: an error worth repeating. */
  readonly cutShort?: number;
  /** A get brings fewer bytes than there are, and nothing shows it. */
  readonly truncate?: number;
  /** A get brings a flipped bit, and nothing shows it. */
  readonly corrupt?: number;
  /** A call takes a random number of turns of the event loop, up to this many. 1 when left out. */
  readonly turnsMax?: number;
}

export interface RequestCounts {
  put: number;
  get: number;
  list: number;
  delete: number;
  /** Bytes of bodies, of calls that took effect. */
  bytesPut: number;
  bytesGot: number;
}

/** A put that has arrived and is not done. */
export interface PausedPut {
  /** Resolves when a put has come that fits. */
  readonly arrived: Promise<void>;
  /** It takes effect and answers. */
  resume(): void;
  /** It answers with a failure worth repeating, without effect. */
  fail(): void;
}

interface SimulatedObject {
  readonly body: Uint8Array;
  readonly etag: string;
  readonly modifiedMs: number;
}

/** What is stored. Tests may look at it and damage it. */
export class SimulatedBucket {
  readonly objects: Map<string, SimulatedObject> = new Map();
  /** Counts puts and stands for the time, unless there is a clock. */
  private clock = 0;
  /** The clock of the service. */
  now: (() => number) | null = null;

  keys(prefix = ""): string[] {
    return [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort(compareKeys);
  }

  /** All bytes stored. */
  size(prefix = ""): number {
    return this.keys(prefix).reduce((sum, key) => sum + this.body(key).byteLength, 0);
  }

  /** The stored bytes themselves; throws when there is no such object. */
  body(key: string): Uint8Array {
    const object = this.objects.get(key);
    if (object === undefined) throw new RangeError(`Simulated bucket: there is no object "${key}"`);
    return object.body;
  }

  store(key: string, body: Uint8Array): ObjectVersion {
    const etag = `"${createHash("md5").update(body).digest("hex")}"`;
    this.objects.set(key, { body: body.slice(), etag, modifiedMs: this.now?.() ?? ++this.clock });
    return { etag };
  }

  flipBit(key: string, bit: number): void {
    this.body(key)[bit >> 3]! ^= 1 << (bit & 7);
  }

  truncate(key: string, size: number): void {
    this.store(key, this.body(key).subarray(0, size));
  }

  /** A bucket with the same objects, as of now. */
  copy(): SimulatedBucket {
    const copy = new SimulatedBucket();
    for (const [key, object] of this.objects)
      copy.objects.set(key, { ...object, body: object.body.slice() });
    copy.clock = this.clock;
    return copy;
  }
}

export interface SimulatedStoreOptions {
  readonly seed?: number;
  readonly bucket?: SimulatedBucket;
  readonly faults?: SimulatedFaults;
}

interface Pause {
  readonly fits: (key: string) => boolean;
  readonly arrive: () => void;
  readonly outcome: Promise<"done" | "failed">;
}

export class SimulatedObjectStore implements ObjectStore {
  readonly description = "simulated://bucket";
  readonly bucket: SimulatedBucket;
  /** Takes effect with the next call. */
  faults: SimulatedFaults;
  /** While true every call fails without effect. */
  down = false;
  counts: RequestCounts = noRequests();
  private readonly random: Random;
  private pauses: Pause[] = [];

  constructor(options: SimulatedStoreOptions = {}) {
    this.bucket = options.bucket ?? new SimulatedBucket();
    this.random = new Random(options.seed ?? 0);
    this.faults = options.faults ?? {};
  }

  resetCounts(): void {
    this.counts = noRequests();
  }

  /** Stops the next put whose key fits (all do when it is left out). */
  pausePut(fits: (key: string) => boolean = () => true): PausedPut {
    const { promise: arrived, resolve: arrive } = withResolvers<void>();
    const { promise: outcome, resolve: settle } = withResolvers<"done" | "failed">();
    this.pauses.push({ fits, arrive, outcome });
    return { arrived, resume: () => settle("done"), fail: () => settle("failed") };
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    checkObjectKey(key);
    const action = `put object "${key}" in ${this.description}`;
    const bytes = body.slice();
    this.counts.put++;
    return this.call(action, options, async () => {
      await this.meetPause(action, key);
      this.checkCondition(action, key, options.condition);
      this.counts.bytesPut += bytes.byteLength;
      return this.bucket.store(key, bytes);
    });
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    checkObjectKey(key);
    const action = `get object "${key}" in ${this.description}`;
    this.counts.get++;
    return this.call(action, options, async () => {
      const object = this.bucket.objects.get(key);
      if (object === undefined) return null;
      const { offset, length } = options.range ?? { offset: 0, length: object.body.byteLength };
      const body = object.body.slice(offset, offset + length);
      this.counts.bytesGot += body.byteLength;
      if (this.happens(this.faults.cutShort))
        throw unavailable(action, "the answer ended before its end");
      return { etag: object.etag, body: this.damaged(body) };
    });
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const action = `list objects "${prefix}" in ${this.description}`;
    const pageSize = 1 + this.random.integer(0, 99);
    let after = options.startAfter ?? "";
    for (;;) {
      this.counts.list++;
      const page = await this.call(action, options, async () =>
        this.bucket
          .keys(prefix)
          .filter((key) => compareKeys(key, after) > 0)
          .slice(0, pageSize)
          .map((key) => this.listed(key)),
      );
      for (const object of page) yield object;
      const last = page.at(-1);
      if (last === undefined || page.length < pageSize) return;
      after = last.key;
    }
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    for (const key of keys) checkObjectKey(key);
    const action = `delete ${keys.length} objects in ${this.description}`;
    this.counts.delete++;
    await this.call(action, options, async () => {
      for (const key of keys) this.bucket.objects.delete(key);
    });
  }

  close(): void {}

  private async call<T>(
    action: string,
    options: RequestOptions,
    effect: () => Promise<T>,
  ): Promise<T> {
    const { signal } = options;
    throwIfAborted(action, signal);
    const { failBefore, loseAnswer, hang, late, turnsMax = 1 } = this.faults;
    const fails = this.happens(failBefore);
    const loses = this.happens(loseAnswer);
    const hangs = this.happens(hang);
    const isLate = this.happens(late);
    const actsFirst = this.random.chance(0.5);
    for (let turns = this.random.integer(1, turnsMax); turns > 0; turns--) await nextTurn();
    throwIfAborted(action, signal);
    if (this.down) throw unavailable(action, "the service is down");
    if ((hangs || isLate) && signal !== undefined) {
      if (!isLate && actsFirst) await effect();
      await aborted(signal);
      if (isLate) void this.actLate(effect);
      throwIfAborted(action, signal);
    }
    if (fails) throw unavailable(action, "the service fails");
    const result = await effect();
    if (loses) throw unavailable(action, "the answer was lost");
    throwIfAborted(action, signal);
    return result;
  }

  /** Nobody hears any more how it went. */
  private async actLate(effect: () => Promise<unknown>): Promise<void> {
    for (let turns = this.random.integer(1, LATE_TURNS_MAX); turns > 0; turns--) await nextTurn();
    await effect().catch(() => undefined);
  }

  private checkCondition(action: string, key: string, condition: PutCondition | undefined): void {
    if (condition === undefined) return;
    const object = this.bucket.objects.get(key);
    if ("absent" in condition) {
      if (object !== undefined) throw conditionFailed(action, "there is one already");
    } else if (object?.etag !== condition.etag) {
      throw conditionFailed(action, "another one has replaced it");
    }
  }

  private async meetPause(action: string, key: string): Promise<void> {
    const index = this.pauses.findIndex(({ fits }) => fits(key));
    const [pause] = index === -1 ? [] : this.pauses.splice(index, 1);
    if (pause === undefined) return;
    pause.arrive();
    if ((await pause.outcome) === "failed") throw unavailable(action, "the service fails");
  }

  private damaged(body: Uint8Array): Uint8Array {
    const { truncate, corrupt } = this.faults;
    if (body.byteLength === 0) return body;
    if (this.happens(corrupt))
      body[this.random.integer(0, body.byteLength - 1)]! ^= 1 << this.random.integer(0, 7);
    return this.happens(truncate)
      ? body.slice(0, this.random.integer(0, body.byteLength - 1))
      : body;
  }

  private listed(key: string): ListedObject {
    const object = this.bucket.objects.get(key);
    if (object === undefined) throw new RangeError(`Simulated bucket: there is no object "${key}"`);
    return { key, size: object.body.byteLength, modifiedMs: object.modifiedMs };
  }

  private happens(share: number | undefined): boolean {
    return share !== undefined && share > 0 && this.random.chance(share);
  }
}

function noRequests(): RequestCounts {
  return { put: 0, get: 0, list: 0, delete: 0, bytesPut: 0, bytesGot: 0 };
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((resolvePromise) => {
    resolve = resolvePromise;
  });
  return { promise, resolve };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
