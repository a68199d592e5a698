/**
 * When garbage is collected: on request, or by itself once enough may be dead. The engine gives it time, between queries.
 *
 *   idle --begin--> collecting --step, last one--> idle        collecting --abandon, error--> idle
 *
 * G1. While something holds it (a check reads the whole store, expiry drops versions), no cycle begins or goes on.
 * G2. By itself a cycle begins only after a checkpoint, when chunks took as many bytes since the last cycle as `ratio` says of
 *     what there was then: its work stays in proportion to what is written. What has expired goes first.
 */
import type { StoreState } from "../checkpoint/store-state.ts";
import { invariant, StoreError } from "../errors.ts";
import { PACK_DIRECTORY } from "../page/pack-format.ts";
import { type GarbageProgress, GarbageCycle, type GarbageReport } from "./garbage-cycle.ts";
import { HistoryReferences } from "./mark.ts";

/** Less than this is not worth a cycle. */
const BYTES_MIN = 64 * 1024 * 1024;
/** What a pack takes at most, for a guess of what is there before the first cycle. */
const PACK_BYTES = 64 * 1024 * 1024;

export interface CollectorOptions {
  readonly state: StoreState;
  readonly nextHistorySegment: () => number;
  /** 0 to 1; null: never by itself. */
  readonly ratio: number | null;
}

export interface BeginOptions {
  readonly isDryRun: boolean;
  /** Whether syncs may block. */
  readonly isBlocking: boolean;
  /** Whether somebody else than the engine's schedule goes on with it. */
  readonly isAwaited: boolean;
}

export class GarbageCollector {
  readonly #options: CollectorOptions;
  readonly #references: HistoryReferences = new HistoryReferences();
  #cycle: GarbageCycle | null = null;
  #isAwaited = false;
  #holds = 0;
  /** Of all chunks, when the last cycle ended. */
  #appendedBytes = 0;
  /** That make the next cycle begin; null: not known yet. */
  #thresholdBytes: number | null = null;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** The cycle that runs, if one does. */
  get cycle(): GarbageCycle | null {
    return this.#cycle;
  }

  /** A cycle runs that nobody waits for. */
  get needsTime(): boolean {
    return this.#cycle !== null && !this.#isAwaited && this.#holds === 0;
  }

  /** Null when no cycle runs. */
  get progress(): GarbageProgress | null {
    return this.#cycle?.progress ?? null;
  }

  /** No checkpoint runs. A cycle that runs is given up: it may have begun before what is to go was dropped. */
  begin({ isDryRun, isBlocking, isAwaited }: BeginOptions): GarbageCycle {
    if (this.#holds > 0)
      throw new StoreError(
        "STORE_BUSY",
        "Cannot collect garbage: a check, an expiry or a hand-over is running; try again when it has ended",
        { retryable: true },
      );
    this.abandon();
    const { state, nextHistorySegment } = this.#options;
    this.#isAwaited = isAwaited;
    this.#cycle = new GarbageCycle({
      state,
      references: this.#references,
      nextHistorySegment: nextHistorySegment(),
      isDryRun,
      isBlocking,
    });
    return this.#cycle;
  }

  /** Goes on for about so long. The report when that ended the cycle; null: there is more, or none runs. */
  step(sliceMs: number): GarbageReport | null {
    const cycle = this.#cycle;
    if (cycle === null || this.#holds > 0) return null;
    const until = performance.now() + sliceMs;
    try {
      do {
        if (cycle.step()) {
          this.#cycle = null;
          this.#completed();
          return cycle.report();
        }
      } while (!cycle.isWaiting && performance.now() < until);
      return null;
    } catch (error) {
      this.#cycle = null;
      throw error;
    }
  }

  /** Ends the cycle that runs, if one does. What it has freed stays freed. */
  abandon(): void {
    this.#cycle?.end();
    this.#cycle = null;
  }

  /** G1, until the result is disposed of. */
  hold(): Disposable {
    this.#holds++;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#holds--;
        isHeld = false;
      },
    };
  }

  /** Versions go from the catalog until the result is disposed of: a cycle that runs is given up, none begins meanwhile (Y2). */
  dropping(): Disposable {
    this.abandon();
    return this.hold();
  }

  /** G2. */
  isDue(): boolean {
    const { ratio, state } = this.#options;
    if (ratio === null || this.#cycle !== null || this.#holds > 0) return false;
    const grown = state.chunks.appendedBytes - this.#appendedBytes;
    if (grown < BYTES_MIN) return false;
    this.#thresholdBytes ??= this.#threshold(ratio);
    return grown >= this.#thresholdBytes;
  }

  #completed(): void {
    this.#appendedBytes = this.#options.state.chunks.appendedBytes;
    this.#thresholdBytes = null;
  }

  #threshold(ratio: number): number {
    invariant(ratio > 0, `A ratio above 0, not ${ratio}`);
    const packs = this.#options.state.storage.listSync(PACK_DIRECTORY).length;
    return Math.max(BYTES_MIN, packs * PACK_BYTES * ratio);
  }
}
