/**
 * Brings blocks of objects into the block cache: what readers wait for at once, what they may need next when there is room.
 *
 *   missing --request--> under way --answer--> in the cache
 *      ^                     |
 *      +--failure, cancel----+
 *
 * F1. A block is under way in at most one request; all who want it meanwhile wait for that one.
 * F2. Neighbouring blocks go in one request, up to REQUEST_BLOCKS_MAX.
 * F3. A request that readers started is cancelled when the last of them gives up. One that was started ahead of
 *     readers goes on.
 * F4. What was fetched for a reader is pinned until it has read it, each block as it comes (rule M2 of not-local.ts).
 * F5. Requests ahead of readers are begun only while at most DEMAND_MAX others are under way, and hold at most `prefetchBytesMax`
 *     in flight; of what waits to be begun the oldest is dropped. Their failures are nobody's: a reader asks again.
 * F6. An answer of a wrong size is asked for once more, then it is CORRUPT_REMOTE; so is an object that is not there.
 * F7. A block that readers find damaged is fetched anew, REFETCHES_MAX times at most.
 */
import { StoreError } from "../errors.ts";
import type { FetchOptions } from "../storage/not-local.ts";
import {
  BLOCK_SIZE,
  type BlockCache,
  blockId,
  blockSize,
  type CachedObject,
} from "./block-cache.ts";
import type { StoredObject } from "./object-store.ts";
import { type RemoteClient, type StartedRequest, timedOut } from "./remote-client.ts";

/** 8 MiB. */
const REQUEST_BLOCKS_MAX = 128;
/** 1 MiB: small enough that a reader who comes for a part of it does not wait for long. */
const PREFETCH_BLOCKS_MAX = 16;
const DEMAND_MAX = 4;
const PREFETCH_BYTES_MAX = 4 * 1024 * 1024;
const QUEUE_MAX = 256;
const ATTEMPTS_MAX = 2;
const REFETCHES_MAX = 3;
/** Blocks remembered: those fetched ahead and not read yet, for the statistics, and those fetched anew. */
const AHEAD_MAX = 10_000;

export type BlockSource = Pick<RemoteClient, "startGet" | "waitSync" | "poll" | "description">;

export interface LazyFetchStatistics {
  /** Requests begun. */
  readonly requests: number;
  /** Bytes that came. */
  readonly bytes: number;
  /** Blocks fetched ahead of readers, and how many of those were read. */
  readonly prefetchedBlocks: number;
  readonly usedPrefetchedBlocks: number;
}

interface Run {
  readonly object: CachedObject;
  readonly first: number;
  readonly count: number;
}

interface Flight extends Run {
  readonly isAhead: boolean;
  readonly waiters: Set<Waiter>;
  request: StartedRequest | null;
  attempts: number;
}

/** One caller that waits for blocks of one object. */
interface Waiter {
  readonly blocks: ReadonlySet<number>;
  readonly object: CachedObject;
  readonly flights: Set<Flight>;
  readonly pinned: number[];
  /** Called once. */
  readonly settle: (error: Error | null) => void;
}

export class LazyFetch {
  private readonly source: BlockSource;
  private readonly cache: BlockCache;
  private readonly prefetchBytesMax: number;
  private readonly underWay = new Map<string, Flight>();
  private readonly queue: Run[] = [];
  private readonly ahead = new Set<string>();
  private readonly refetched = new Map<string, number>();
  private demandCount = 0;
  private prefetchBytes = 0;
  private requests = 0;
  private bytes = 0;
  private prefetchedBlocks = 0;
  private usedPrefetchedBlocks = 0;

  constructor(source: BlockSource, cache: BlockCache, prefetchBytesMax?: number) {
    this.source = source;
    this.cache = cache;
    this.prefetchBytesMax = prefetchBytesMax ?? PREFETCH_BYTES_MAX;
  }

  statistics(): LazyFetchStatistics {
    const { requests, bytes, prefetchedBlocks, usedPrefetchedBlocks } = this;
    return { requests, bytes, prefetchedBlocks, usedPrefetchedBlocks };
  }

  /** The block from the cache, or from an answer that has come meanwhile. */
  block(object: CachedObject, index: number): Uint8Array | null {
    const bytes = this.cache.block(object, index);
    if (bytes !== null) return bytes;
    if (!this.underWay.has(blockId(object, index))) return null;
    this.source.poll();
    return this.cache.block(object, index);
  }

  /** A reader has read the block. */
  noteRead(object: CachedObject, index: number): void {
    this.cache.release(object, index);
    if (this.ahead.size > 0 && this.ahead.delete(blockId(object, index))) {
      this.usedPrefetchedBlocks++;
    }
  }

  /** `begun` is called once the requests are on their way, so that what it prefetches comes after them. */
  fetch(
    object: CachedObject,
    blocks: readonly number[],
    options: FetchOptions = {},
    begun: () => void = noop,
  ): Promise<void> {
    const { signal, timeoutMs } = options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      let timer: NodeJS.Timeout | null = null;
      let isSettled = false;
      const finish = (error: Error | null): void => {
        isSettled = true;
        if (timer !== null) clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        if (error === null) resolve();
        else reject(error);
      };
      const waiter = this.wait(object, blocks, finish);
      begun();
      const giveUp = (error: Error): void => {
        this.leave(waiter);
        finish(error);
      };
      const abort = (): void => giveUp(signal?.reason as Error);
      if (isSettled) return;
      signal?.addEventListener("abort", abort, { once: true });
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => giveUp(this.timedOut(object, timeoutMs)), timeoutMs);
      }
    });
  }

  fetchSync(
    object: CachedObject,
    blocks: readonly number[],
    options: FetchOptions = {},
    begun: () => void = noop,
  ): void {
    options.signal?.throwIfAborted();
    const outcome: { error?: Error | null } = {};
    const waiter = this.wait(object, blocks, (error) => {
      outcome.error = error;
    });
    begun();
    const isDone = (): boolean => outcome.error !== undefined;
    if (!this.source.waitSync(isDone, options.timeoutMs) && !isDone()) {
      this.leave(waiter);
      throw this.timedOut(object, options.timeoutMs ?? Infinity);
    }
    if (outcome.error instanceof Error) throw outcome.error;
  }

  /** Fetches blocks [first, first + count) when there is room (F5). */
  prefetch(object: CachedObject, first: number, count: number): void {
    for (const run of this.runsOf(object, range(first, count), PREFETCH_BLOCKS_MAX)) {
      if (this.queue.length === QUEUE_MAX) this.queue.shift();
      this.queue.push(run);
    }
    this.pump();
  }

  /** Drops blocks [first, end) that turned out not to hold what they should; false when that has not helped before (F7). */
  refetch(object: CachedObject, first: number, end: number): boolean {
    const ids = range(first, end - first).map((index) => blockId(object, index));
    if (ids.some((id) => (this.refetched.get(id) ?? 0) >= REFETCHES_MAX)) return false;
    if (this.refetched.size > AHEAD_MAX) this.refetched.clear();
    for (const id of ids) this.refetched.set(id, (this.refetched.get(id) ?? 0) + 1);
    for (let index = first; index < end; index++) this.cache.drop(object, index);
    return true;
  }

  /** Nothing more is begun ahead of readers. */
  close(): void {
    this.queue.length = 0;
  }

  private wait(
    object: CachedObject,
    blocks: readonly number[],
    settle: (error: Error | null) => void,
  ): Waiter {
    const wanted = new Set(blocks);
    const waiter: Waiter = { blocks: wanted, object, flights: new Set(), pinned: [], settle };
    const missing: number[] = [];
    for (const index of wanted) {
      const flight = this.underWay.get(blockId(object, index));
      if (flight !== undefined) this.join(waiter, flight);
      else if (this.cache.pin(object, index)) waiter.pinned.push(index);
      else missing.push(index);
    }
    try {
      for (const run of this.runsOf(object, missing, REQUEST_BLOCKS_MAX)) {
        this.join(waiter, this.begin(run, false));
      }
    } catch (error) {
      this.leave(waiter);
      throw error;
    }
    if (waiter.flights.size === 0) settle(null);
    return waiter;
  }

  private join(waiter: Waiter, flight: Flight): void {
    waiter.flights.add(flight);
    flight.waiters.add(waiter);
    flight.request?.keepAlive();
  }

  /** The waiter has given up. */
  private leave(waiter: Waiter): void {
    for (const index of waiter.pinned) this.cache.release(waiter.object, index);
    waiter.pinned.length = 0;
    this.abandon(waiter);
  }

  private abandon(waiter: Waiter): void {
    for (const flight of waiter.flights) {
      flight.waiters.delete(waiter);
      if (flight.waiters.size > 0 || flight.isAhead) continue;
      this.remove(flight);
      flight.request?.cancel();
    }
    waiter.flights.clear();
    this.pump();
  }

  private begin(run: Run, isAhead: boolean): Flight {
    const flight: Flight = { ...run, isAhead, waiters: new Set(), request: null, attempts: 0 };
    this.request(flight);
    for (let index = 0; index < run.count; index++) {
      this.underWay.set(blockId(run.object, run.first + index), flight);
    }
    if (isAhead) this.prefetchBytes += bytesOf(run);
    else this.demandCount++;
    return flight;
  }

  private request(flight: Flight): void {
    const offset = flight.first * BLOCK_SIZE;
    const length = bytesOf(flight);
    flight.attempts++;
    this.requests++;
    flight.request = this.source.startGet(flight.object.key, { offset, length }, (error, object) =>
      this.answered(flight, error, object),
    );
    if (!flight.isAhead) flight.request.keepAlive();
  }

  private answered(flight: Flight, error: Error | null, object: StoredObject | null): void {
    if (object !== null) this.bytes += object.body.byteLength;
    const fault = error ?? this.faultOf(flight, object);
    if (fault === null && object !== null) {
      this.remove(flight);
      this.arrived(flight, object.body);
    } else if (fault === "again") {
      this.requestAgain(flight);
      return;
    } else if (fault !== null) {
      this.remove(flight);
      this.failed(flight, fault);
    }
    this.pump();
  }

  private faultOf(flight: Flight, object: StoredObject | null): Error | "again" | null {
    const { key } = flight.object;
    const place = `Cannot read object "${key}" in "${this.source.description}"`;
    const details = { key };
    if (object === null) {
      return new StoreError(
        "CORRUPT_REMOTE",
        `${place}: it is gone; the store was perhaps garbage-collected or changed meanwhile, open it again`,
        { details },
      );
    }
    const length = bytesOf(flight);
    if (object.body.byteLength === length) return null;
    if (flight.attempts < ATTEMPTS_MAX) return "again";
    return new StoreError(
      "CORRUPT_REMOTE",
      `${place}: ${object.body.byteLength} bytes came from offset ${flight.first * BLOCK_SIZE}, ${length} should be there; restore an older version or upload the store again`,
      { details: { ...details, offset: flight.first * BLOCK_SIZE, length } },
    );
  }

  private requestAgain(flight: Flight): void {
    try {
      this.request(flight);
      if (flight.waiters.size > 0) flight.request?.keepAlive();
    } catch (error) {
      this.remove(flight);
      this.failed(flight, error instanceof Error ? error : new Error(String(error)));
    }
  }

  private arrived(flight: Flight, body: Uint8Array): void {
    const { object, first, count } = flight;
    for (let index = 0; index < count; index++) {
      const start = index * BLOCK_SIZE;
      const bytes = count === 1 ? body : body.slice(start, start + BLOCK_SIZE);
      this.cache.insert(object, first + index, bytes);
      if (flight.isAhead) this.noteAhead(blockId(object, first + index));
      for (const waiter of flight.waiters) {
        if (!waiter.blocks.has(first + index)) continue;
        this.cache.pin(object, first + index);
        waiter.pinned.push(first + index);
      }
    }
    for (const waiter of flight.waiters) {
      waiter.flights.delete(flight);
      if (waiter.flights.size === 0) waiter.settle(null);
    }
    flight.waiters.clear();
  }

  private noteAhead(id: string): void {
    this.prefetchedBlocks++;
    if (this.ahead.size < AHEAD_MAX) this.ahead.add(id);
  }

  private failed(flight: Flight, error: Error): void {
    const waiters = [...flight.waiters];
    flight.waiters.clear();
    for (const waiter of waiters) {
      waiter.flights.delete(flight);
      this.leave(waiter);
      waiter.settle(error);
    }
  }

  private remove(flight: Flight): void {
    for (let index = 0; index < flight.count; index++) {
      this.underWay.delete(blockId(flight.object, flight.first + index));
    }
    if (flight.isAhead) this.prefetchBytes -= bytesOf(flight);
    else this.demandCount--;
  }

  /** Begins what waits in the queue, as far as F5 allows. */
  private pump(): void {
    while (this.queue.length > 0 && this.demandCount <= DEMAND_MAX) {
      const next = this.queue[0] as Run;
      const isFull = this.prefetchBytes + bytesOf(next) > this.prefetchBytesMax;
      if (isFull && this.prefetchBytes > 0) return;
      this.queue.shift();
      const wanted = range(next.first, next.count);
      try {
        for (const run of this.runsOf(next.object, wanted, PREFETCH_BLOCKS_MAX)) {
          this.begin(run, true);
        }
      } catch {
        // The client is closed: whoever needs the bytes will hear of it.
        this.queue.length = 0;
      }
    }
  }

  /** The blocks of `indexes` that are neither here nor under way, as runs of neighbours. */
  private runsOf(object: CachedObject, indexes: Iterable<number>, countMax: number): Run[] {
    const blockCount = Math.ceil(object.size / BLOCK_SIZE);
    const runs: { object: CachedObject; first: number; count: number }[] = [];
    for (const index of [...indexes].sort((a, b) => a - b)) {
      if (index >= blockCount || this.underWay.has(blockId(object, index))) continue;
      if (this.cache.has(object, index)) continue;
      const last = runs.at(-1);
      const isNext = last !== undefined && last.first + last.count === index;
      if (isNext && last.count < countMax) last.count++;
      else runs.push({ object, first: index, count: 1 });
    }
    return runs;
  }

  private timedOut(object: CachedObject, timeoutMs: number): StoreError {
    return timedOut(`read object "${object.key}" in "${this.source.description}"`, timeoutMs);
  }
}

function noop(): void {}

function bytesOf(run: Run): number {
  const last = run.first + run.count - 1;
  return (run.count - 1) * BLOCK_SIZE + blockSize(run.object, last);
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}
