/**
 * When checkpoints run, and how far at a time.
 *
 *   idle --commits hold enough memory, or are old enough; asked for--> under way --last slice--> idle
 *
 * H1. One checkpoint is under way at a time, in slices: after commits, and when the event loop is free. When commits come faster
 *     than it can work, they wait for it, so memory stays bounded.
 * H2. No commit stays out of a checkpoint for much longer than `checkpointIntervalMs`: the roots that retention keeps for each
 *     hour are those that checkpoints make.
 * H3. A failure is reported once, through `onFailure`; nothing starts after it.
 */
import { type CheckpointReport, runCheckpoint } from "../checkpoint/checkpoint.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { waiting } from "../storage/not-local.ts";

/** How long one slice of a checkpoint may take, in milliseconds: after a commit, and when the event loop is free. */
const COMMIT_SLICE_MS = 0.5;
const IDLE_SLICE_MS = 4;
/** The same for background work, which is in no hurry. */
const BACKGROUND_COMMIT_SLICE_MS = 0.2;
const BACKGROUND_IDLE_SLICE_MS = 1;
/** What a timer can wait for. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** What gets time between queries while no checkpoint is under way. */
export interface BackgroundWork {
  readonly needsTime: () => boolean;
  /** Goes on for about so long; never throws. */
  readonly run: (sliceMs: number) => void;
  /** A checkpoint has ended. */
  readonly checkpointed: () => void;
}

export interface CheckpointScheduleOptions {
  readonly state: StoreState;
  readonly checkpointBytes: number;
  readonly checkpointIntervalMs: number;
  readonly nextHistorySegment: number;
  /** False: nothing new begins. */
  readonly isOpen: () => boolean;
  readonly onFailure: (cause: unknown) => void;
  readonly background: BackgroundWork;
}

/** Since the store was opened. */
export interface CheckpointCounters {
  checkpoints: number;
  /** Pages that they put into chunks. */
  pagesWritten: number;
  /** Pages that were in chunks already. */
  pagesShared: number;
}

export class CheckpointSchedule {
  readonly counters: CheckpointCounters = { checkpoints: 0, pagesWritten: 0, pagesShared: 0 };
  readonly #options: CheckpointScheduleOptions;
  readonly #progress: { nextHistorySegment: number };
  #running: Generator<void, CheckpointReport> | null = null;
  #isStepping = false;
  #isScheduled = false;
  /** Bytes of memory that commits since the last checkpoint hold. */
  #retainedBytes = 0;
  /** Of the oldest commit since the last checkpoint; null when there is none. */
  #oldestMs: number | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: CheckpointScheduleOptions) {
    this.#options = options;
    this.#progress = { nextHistorySegment: options.nextHistorySegment };
  }

  get nextHistorySegment(): number {
    return this.#progress.nextHistorySegment;
  }

  /** When the oldest commit was made that waits for a checkpoint to begin; null: none does. */
  get oldestMs(): number | null {
    return this.#oldestMs;
  }

  /** The number of a segment that somebody else than a checkpoint writes. */
  takeHistorySegment(): number {
    return this.#progress.nextHistorySegment++;
  }

  /** A commit was published that holds so much memory. */
  onCommitted(bytes: number, timestampMs: number): void {
    const { checkpointBytes, checkpointIntervalMs, isOpen } = this.#options;
    this.#retainedBytes += bytes;
    if (this.#running === null) {
      if (!isOpen()) return;
      this.#oldestMs ??= timestampMs;
      const isOld = timestampMs - this.#oldestMs >= checkpointIntervalMs;
      if (this.#retainedBytes < checkpointBytes && !isOld) {
        this.#startTimer();
        this.#runBackground(BACKGROUND_COMMIT_SLICE_MS);
      } else this.#begin();
      return;
    }
    // The commit is durable whatever becomes of the checkpoint; if that fails, the next write says so.
    this.#try(this.#retainedBytes > checkpointBytes ? Infinity : COMMIT_SLICE_MS);
  }

  /** Ends the checkpoint that is under way, if there is one. */
  finish(): void {
    this.#step(Infinity);
  }

  /** The background work needs time from now on. */
  wake(): void {
    this.#schedule();
  }

  /** Goes on for about so long, with a new one when none is under way. */
  step(sliceMs: number): void {
    if (this.#running === null) {
      if (!this.#hasWork()) return;
      this.#start();
    }
    this.#step(sliceMs);
  }

  /** Moves all commits so far out of the log; returns when done. */
  run(): void {
    this.finish(); // One that runs already does not cover the newest commits.
    if (!this.#hasWork()) return;
    this.#start();
    this.finish();
  }

  /** The same in slices between which the event loop runs. `assertOpen` throws when it is not to go on. */
  async runAsync(assertOpen: () => void): Promise<void> {
    const { state } = this.#options;
    const lsn = state.log.lastLsn;
    while ((state.catalog.state()?.checkpointLsn ?? 0) < lsn) {
      this.step(IDLE_SLICE_MS);
      await new Promise((resolve) => setImmediate(resolve));
      assertOpen();
    }
  }

  /** Nothing goes on after this. */
  stop(): void {
    this.#running = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #hasWork(): boolean {
    const { log, catalog } = this.#options.state;
    return log.lastLsn > (catalog.state()?.checkpointLsn ?? 0);
  }

  #start(): void {
    this.#running = runCheckpoint(this.#options.state, this.#progress);
    this.#retainedBytes = 0;
    this.#oldestMs = null;
  }

  #begin(): void {
    this.#start();
    this.#schedule();
  }

  /** For the last commits before a pause (H2). */
  #startTimer(): void {
    if (this.#timer !== null) return;
    const delayMs = Math.min(this.#options.checkpointIntervalMs, TIMER_MS_MAX);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#running === null && this.#options.isOpen() && this.#hasWork()) this.#begin();
    }, delayMs);
    this.#timer.unref();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    if (this.#running === null && !this.#options.background.needsTime()) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      if (!this.#options.isOpen()) return;
      if (this.#running === null) this.#runBackground(BACKGROUND_IDLE_SLICE_MS);
      else if (!this.#try(IDLE_SLICE_MS)) return;
      this.#schedule();
    });
  }

  #runBackground(sliceMs: number): void {
    const { background } = this.#options;
    if (background.needsTime()) background.run(sliceMs);
  }

  #count({ pagesWritten, pagesShared }: CheckpointReport): void {
    this.counters.checkpoints++;
    this.counters.pagesWritten += pagesWritten;
    this.counters.pagesShared += pagesShared;
  }

  /** False: it failed, and with it the store. */
  #try(sliceMs: number): boolean {
    try {
      this.#step(sliceMs);
      return true;
    } catch {
      return false;
    }
  }

  /** Goes on with the checkpoint under way for about this long. */
  #step(sliceMs: number): void {
    const running = this.#running;
    if (running === null || this.#isStepping) return;
    const until = performance.now() + sliceMs;
    this.#isStepping = true;
    try {
      do {
        const { done, value } = waiting(() => running.next());
        if (done === true) {
          this.#running = null;
          this.#count(value);
          this.#options.background.checkpointed();
          return;
        }
      } while (performance.now() < until);
    } catch (error) {
      this.#running = null;
      this.#options.onFailure(error);
      throw error;
    } finally {
      this.#isStepping = false;
    }
  }
}
