/** What concerns all partitions of a ThreadedStore at once: asked of each, and given as one report. */
import type { CheckOptions, CheckProgress, CheckReport } from "../integrity/report.ts";
import type { ScrubReport } from "../integrity/scrub.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageProgress, GarbageReport } from "../retention/garbage-cycle.ts";
import type { GarbageAsyncOptions } from "../store/garbage.ts";
import type { HeldSpace } from "../store/garbage-holders.ts";
import { sumOf, wholeCheck, wholeHeldSpace, wholeStatistics } from "../store/partition-reports.ts";
import type { DiskStatistics, StoreStatistics } from "../store/statistics.ts";
import { type StoreCounters, wholeCounters } from "../store/store-counters.ts";
import type { StoreInfo } from "../store/store-info.ts";
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

  /** Reads everything that the store keeps and says what is damaged, and which revisions that touches. */
  async check({ deep, onProgress }: CheckOptions = {}): Promise<CheckReport> {
    const onEvent = (progress: unknown): void => onProgress?.(progress as CheckProgress);
    return wholeCheck(await this.everywhere("check", [deep], { onEvent }));
  }

  /** Reads all chunks and history on disk again, past the cache, at a set rate for each thread, while the store goes on. */
  async scrub(options: { readonly bytesPerSecond?: number } = {}): Promise<ScrubReport> {
    const reports = await this.everywhere("scrub", [options.bytesPerSecond]);
    const bytes = reports.reduce((sum, report) => sum + report.bytes, 0);
    return { ...wholeCheck(reports), bytes, stoppedAt: null };
  }

  /** Frees what no branch, tag or kept version leads to any more; resolves when done. */
  async gc({ dryRun, onProgress, signal }: GarbageAsyncOptions = {}): Promise<GarbageReport> {
    const onEvent = (progress: unknown): void => onProgress?.(progress as GarbageProgress);
    return sumOf(await this.everywhere("gc", [dryRun], { signal, onEvent }));
  }

  /** Which branches, tags and old versions hold how much that nothing else does. */
  async heldSpace(): Promise<HeldSpace> {
    return wholeHeldSpace(await this.everywhere("heldSpace", []));
  }

  /** Lets go of versions that retention does not keep any more; garbage collection does it first. */
  async expire(): Promise<ExpiryReport> {
    return sumOf(await this.everywhere("expire", []));
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
