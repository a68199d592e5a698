/**
 * Instances of SQLite for connections that are awaited: each connection has its own (Z2 in suspension.ts) while it is used.
 *
 *   (none) --take--> in use --give--> spare --take--> in use
 *   spare --too many, too large--> left to the garbage collector
 *
 * I1. When they have more memory than `bytesMax`, spare ones go and connections that have been idle for longest are parked
 *     (parking.ts). What is in use counts, and stays: the bound holds once calls have ended.
 * I2. Up to SPARE_MAX small ones stay whatever the bound when there is nothing left to park: connections that are parked between
 *     their calls hand them on, and making an instance takes longer than all else.
 * I3. An instance counts with what SQLite has had allocated at most, since its memory does not shrink, and with what it is made
 *     of. That is looked at when a call has ended.
 */
import type { Parking, RuntimeSource } from "../sqlite/parking.ts";
import { SqliteRuntime } from "../sqlite/runtime.ts";
import type { Vfs } from "../sqlite/vfs.ts";

const SPARE_MAX = 8;
/** One that has grown past this is not kept for others; past the second, not over the bound. */
const SPARE_BYTES_MAX = 32 * 1024 * 1024;
const SMALL_BYTES_MAX = 2 * 1024 * 1024;
/** What an instance takes before SQLite allocates anything: its static data and stack, tables and functions, in JavaScript too. */
const INSTANCE_BYTES = 384 * 1024;

export class RuntimePool implements RuntimeSource {
  readonly #vfs: Vfs;
  readonly #now: () => number;
  readonly #bytesMax: number;
  readonly #spare: SqliteRuntime[] = [];
  /** Not in a call and not parked; the one used last is the last. */
  readonly #idle: Set<Parking> = new Set();
  /** Of every instance, I3. */
  readonly #sizes: Map<SqliteRuntime, number> = new Map();
  #bytes = 0;

  constructor({ vfs, now, bytesMax }: { vfs: Vfs; now: () => number; bytesMax: number }) {
    this.#vfs = vfs;
    this.#now = now;
    this.#bytesMax = bytesMax;
  }

  /** How many instances there are. */
  get count(): number {
    return this.#sizes.size;
  }

  /** Instances that no connection has. */
  get spareCount(): number {
    return this.#spare.length;
  }

  /** Of all instances together (I3). */
  get bytes(): number {
    return this.#bytes;
  }

  take(): SqliteRuntime {
    if (this.#spare.length === 0 && this.#bytes + INSTANCE_BYTES > this.#bytesMax)
      this.#parkUntil(() => this.#spare.length > 0);
    const runtime = this.#spare.pop() ?? this.#make();
    runtime.requireRunning();
    return runtime;
  }

  /** One that failed, or still has a connection, is forgotten. */
  give(runtime: SqliteRuntime): void {
    const isClean = !runtime.hasFailed && runtime.isReusable && runtime.connections.size === 0;
    if (!isClean || this.#measure(runtime) > SPARE_BYTES_MAX || this.#spare.length >= SPARE_MAX)
      this.#forget(runtime);
    else {
      this.#spare.push(runtime);
      this.#dropSpare();
    }
  }

  idle(parking: Parking): void {
    this.#idle.add(parking);
    this.#measure(parking.runtime);
    this.#parkUntil(() => this.#bytes <= this.#bytesMax);
  }

  busy(parking: Parking): void {
    this.#idle.delete(parking);
  }

  #parkUntil(isEnough: () => boolean): void {
    for (const parking of this.#idle) {
      if (isEnough()) return;
      this.#dropSpare();
      if (isEnough()) return;
      this.#idle.delete(parking);
      parking.park();
    }
  }

  /** Over the bound: those that have grown, and all but one while there is more to be parked (I1, I2). */
  #dropSpare(): void {
    while (this.#bytes > this.#bytesMax) {
      const large = this.#spare.findIndex((runtime) => this.#sizeOf(runtime) > SMALL_BYTES_MAX);
      const hasMany = this.#spare.length > 1 && this.#spare.length <= this.#idle.size;
      if (large < 0 && !hasMany) return;
      const [runtime] = this.#spare.splice(Math.max(large, 0), 1);
      this.#forget(runtime!);
    }
  }

  #make(): SqliteRuntime {
    const runtime = new SqliteRuntime({
      vfs: this.#vfs,
      now: this.#now,
      suspends: true,
      countsMemory: true,
    });
    this.#measure(runtime);
    return runtime;
  }

  #measure(runtime: SqliteRuntime): number {
    const before = this.#sizeOf(runtime);
    const bytes = runtime.hasFailed ? before : INSTANCE_BYTES + runtime.allocatedBytesMax;
    this.#sizes.set(runtime, bytes);
    this.#bytes += bytes - before;
    return bytes;
  }

  #sizeOf(runtime: SqliteRuntime): number {
    return this.#sizes.get(runtime) ?? 0;
  }

  #forget(runtime: SqliteRuntime): void {
    this.#bytes -= this.#sizeOf(runtime);
    this.#sizes.delete(runtime);
  }
}
