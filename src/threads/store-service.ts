/** What concerns all partitions of a ThreadedStore at once: asked of each, and given as one report. */
import type { CheckOptions, CheckProgress, CheckReport } from "../integrity/report.ts";
import type { ScrubReport } from "../integrity/scrub.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageProgress, GarbageReport } from "../retention/garbage-cycle.ts";
import type { GarbageAsyncOptions } from "../store/garbage.ts";
import type { HeldSpace } from "../store/garbage-holders.ts";
import type { DiskStatistics, StoreStatistics } from "../store/statistics.ts";
import type { StoreInfo } from "../store/store-info.ts";
import { mergeReports } from "./merge-reports.ts";
import type { CallRequest } from "./owner-thread.ts";
import type { Asked, Rest } from "./owner.ts";
import type { StoreMethod } from "./served-store.ts";

export abstract class StoreService {
  /** @internal Asks every partition; the answers in their order. */
  protected abstract everywhere<M extends StoreMethod>(
    method: M,
    parameters: Rest<M>,
    more?: Pick<CallRequest, "signal" | "onEvent">,
  ): Promise<Asked<M>[]>;

  /** @internal Asks the partition of a database. */
  protected abstract askOf<M extends StoreMethod>(
    database: string,
    method: M,
    parameters: Rest<M>,
  ): Promise<Asked<M>>;

  /** What one database, or all, hold and what they cost. Pages are shared within a partition only. */
  async stat(database?: string): Promise<StoreStatistics> {
    if (database !== undefined) {
      const statistics = await this.askOf(database, "stat", [database]);
      return { ...statistics, disk: await this.diskUse() };
    }
    const sum = mergeReports(await this.everywhere("stat", [undefined]));
    const databases = sum.databases.toSorted((left, right) => (left.name < right.name ? -1 : 1));
    return { ...sum, databases };
  }

  /** The sizes of the store's files, in bytes. */
  async diskUse(): Promise<DiskStatistics> {
    return mergeReports(await this.everywhere("diskUse", []));
  }

  /** Reads everything that the store keeps and says what is damaged, and which revisions that touches. */
  async check({ deep, onProgress }: CheckOptions = {}): Promise<CheckReport> {
    const onEvent = (progress: unknown): void => onProgress?.(progress as CheckProgress);
    return mergeReports(await this.everywhere("check", [deep], { onEvent }));
  }

  /** Reads all chunks and history on disk again, past the cache, at a set rate for each thread, while the store goes on. */
  async scrub(options: { readonly bytesPerSecond?: number } = {}): Promise<ScrubReport> {
    return mergeReports(await this.everywhere("scrub", [options.bytesPerSecond]));
  }

  /** Frees what no branch, tag or kept version leads to any more; resolves when done. */
  async gc({ dryRun, onProgress, signal }: GarbageAsyncOptions = {}): Promise<GarbageReport> {
    const onEvent = (progress: unknown): void => onProgress?.(progress as GarbageProgress);
    return mergeReports(await this.everywhere("gc", [dryRun], { signal, onEvent }));
  }

  /** Which branches, tags and old versions hold how much that nothing else does. */
  async heldSpace(): Promise<HeldSpace> {
    const sum = mergeReports(await this.everywhere("heldSpace", []));
    const holders = sum.holders.toSorted((left, right) => right.ownBytes - left.ownBytes);
    return { ...sum, holders };
  }

  /** Lets go of versions that retention does not keep any more; garbage collection does it first. */
  async expire(): Promise<ExpiryReport> {
    return mergeReports(await this.everywhere("expire", []));
  }

  /** Moves every commit so far from the logs into chunks. Happens by itself; for tests and before a copy. */
  async checkpoint(): Promise<void> {
    await this.everywhere("checkpoint", []);
  }

  /** The store's id, backend and compression. */
  async info(): Promise<StoreInfo> {
    return mergeReports(await this.everywhere("info", []));
  }

  /** Gives unused space of the catalogs back to the system, where the backend can. Sizes in bytes. */
  async compactCatalog(): Promise<{ readonly bytesBefore: number; readonly bytesAfter: number }> {
    return mergeReports(await this.everywhere("compactCatalog", []));
  }
}
