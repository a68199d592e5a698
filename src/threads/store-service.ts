/** What concerns all partitions of a ThreadedStore at once: asked of each, and given as one report. */
import { requireOptions } from "../branch/option-names.ts";
import type { CheckOptions, CheckProgress, CheckReport } from "../integrity/report.ts";
import type { ScrubOptions, ScrubProgress, ScrubReport } from "../integrity/scrub.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageProgress, GarbageReport } from "../retention/garbage-cycle.ts";
import type { ExpireOptions } from "../store/expire.ts";
import {
  CHECK_OPTIONS,
  EXPIRE_OPTIONS,
  GARBAGE_ASYNC_OPTIONS,
  SCRUB_OPTIONS,
} from "../store/call-options.ts";
import type { GarbageAsyncOptions } from "../store/garbage.ts";
import type { HeldSpace } from "../store/garbage-holders.ts";
import { sumOf, wholeCheck, wholeHeldSpace, wholeStatistics } from "../store/partition-reports.ts";
import type { DiskStatistics, StoreStatistics } from "../store/statistics.ts";
import { type StoreCounters, wholeCounters } from "../store/store-counters.ts";
import { scrubPartitions } from "../store/scrub-partitions.ts";
import type { StoreInfo } from "../store/store-info.ts";
import type { Asked, Rest } from "./owner.ts";
import type { StoreMethod } from "./served-store.ts";

/** Beside the parameters of a method. */
export interface EverywhereOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: (value: unknown, partition: number) => void;
}

export abstract class StoreService {
  /** @internal Asks every partition; the answers in their order. */
  protected abstract everywhere<M extends StoreMethod>(
    method: M,
    parameters: Rest<M>,
    more?: EverywhereOptions,
  ): Promise<Asked<M>[]>;

  /** @internal */
  protected abstract askPartition<M extends StoreMethod>(
    partition: number,
    method: M,
    parameters: Rest<M>,
    more?: EverywhereOptions,
  ): Promise<Asked<M>>;

  /** @internal */
  protected abstract get partitionCount(): number;

  /** @internal Asks the partition of a database. */
  protected abstract askOf<M extends StoreMethod>(
    database: string,
    method: M,
    parameters: Rest<M>,
  ): Promise<Asked<M>>;

  /** What one database, or all, hold and what they cost. Pages are shared within a partition only. */
  async stat(database?: string): Promise<StoreStatistics> {
    const reports =
      database === undefined
        ? await this.everywhere("stat", [undefined])
        : [await this.askOf(database, "stat", [database])];
    return wholeStatistics(reports, await this.diskUse());
  }

  /** What has been counted since the threads were started, and how far they are; nothing is read or walked for it. */
  async counters(): Promise<StoreCounters> {
    return wholeCounters(await this.everywhere("counters", []));
  }

  /** The sizes of the store's files, in bytes. */
  async diskUse(): Promise<DiskStatistics> {
    return sumOf(await this.everywhere("diskUse", []));
  }

  /**
   * Reads everything that the store keeps and says what is damaged, and which revisions that touches. What `onProgress` throws ends it, and
   * it rejects with that.
   */
  async check(options: CheckOptions = {}): Promise<CheckReport> {
    requireOptions("check", options, CHECK_OPTIONS);
    const { deep, onProgress } = options;
    const ended = new AbortController();
    const progress = new WholeProgress();
    const onEvent = (value: unknown, partition: number): void => {
      try {
        if (!ended.signal.aborted)
          onProgress?.(progress.with(partition, value as CheckProgress) as CheckProgress);
      } catch (error) {
        ended.abort(error);
        throw error; // The call of this partition fails with it, also when it has nothing left to do.
      }
    };
    const { signal } = ended;
    return wholeCheck(await this.everywhere("check", [deep], { signal, onEvent }));
  }

  /** Reads all chunks and history on disk again, past the cache, at a set rate, while the store goes on; one partition after the other. */
  async scrub(options: ScrubOptions = {}): Promise<ScrubReport> {
    requireOptions("scrub", options, SCRUB_OPTIONS);
    return await scrubPartitions(this.partitionCount, options, async (partition, given) => {
      const { signal, onProgress, ...others } = given;
      const onEvent = (value: unknown): void => onProgress?.(value as ScrubProgress);
      return await this.askPartition(partition, "scrub", [others], { signal, onEvent });
    });
  }

  /** Frees what no branch, tag or kept version leads to any more; resolves when done. */
  async gc(options: GarbageAsyncOptions = {}): Promise<GarbageReport> {
    requireOptions("gc", options, GARBAGE_ASYNC_OPTIONS);
    const { dryRun, onProgress, signal } = options;
    const progress = new WholeProgress();
    const onEvent = (value: unknown, partition: number): void =>
      onProgress?.(progress.with(partition, value as GarbageProgress) as GarbageProgress);
    return sumOf(await this.everywhere("gc", [dryRun], { signal, onEvent }));
  }

  /** Which branches, tags and old versions hold how much that nothing else does. */
  async heldSpace(): Promise<HeldSpace> {
    return wholeHeldSpace(await this.everywhere("heldSpace", []));
  }

  /** Lets go of versions that retention does not keep any more; garbage collection does it first. */
  async expire(options: ExpireOptions = {}): Promise<ExpiryReport> {
    requireOptions("expire", options, EXPIRE_OPTIONS);
    return sumOf(await this.everywhere("expire", [], { signal: options.signal }));
  }

  /** Moves every commit so far from the logs into chunks. Happens by itself; for tests and before a copy. */
  async checkpoint(): Promise<void> {
    await this.everywhere("checkpoint", []);
  }

  /** The store's id, backend and compression. */
  async info(): Promise<StoreInfo> {
    const infos = await this.everywhere("info", []);
    return { ...infos[0]!, catalogBytes: infos.reduce((sum, info) => sum + info.catalogBytes, 0) };
  }

  /** Gives unused space of the catalogs back to the system, where the backend can. Sizes in bytes. */
  async compactCatalog(): Promise<{ readonly bytesBefore: number; readonly bytesAfter: number }> {
    return sumOf(await this.everywhere("compactCatalog", []));
  }
}

/** How far the partitions are that are in the same phase as the one that has told last. */
class WholeProgress {
  readonly #last: Map<number, CheckProgress | GarbageProgress> = new Map();

  with(
    partition: number,
    progress: CheckProgress | GarbageProgress,
  ): CheckProgress | GarbageProgress {
    this.#last.set(partition, progress);
    const same = [...this.#last.values()].filter(({ phase }) => phase === progress.phase);
    const done = same.reduce((sum, each) => sum + each.done, 0);
    if (!("total" in progress)) return { ...progress, done };
    const totals = same.map((each) => ("total" in each ? each.total : null));
    const total = totals.reduce<number | null>(
      (sum, each) => (sum === null || each === null ? null : sum + each),
      0,
    );
    return { ...progress, done, total };
  }
}
