/**
 * One cycle of garbage collection: frees what nothing leads to, in steps, while everybody else goes on reading and writing.
 *
 *   begin -> mark -> page hashes -> chunks -> nodes -> packs -> history -> done
 *            any step but done --end, error--> ended: nothing is lost, what is left goes in a later cycle
 *
 * Y1. Whatever anybody can read before a cycle, or comes to read during it, reads the same after it. (What is alive: L1 to
 *     L4 in mark.ts. What goes, and when: D1 to D4 in sweep.ts, E1 to E3 in sweep-packs.ts.)
 * Y2. It begins between two checkpoints, in one turn: the write barrier is set, and what leads to pages besides the catalog
 *     is taken down. Checkpoints, commits, imports, forks run beside it; dropping versions from the catalog (expiry) ends it.
 * Y3. Nothing of the mark is stored. A crash loses the cycle and no more: each commit of the sweep leaves a valid store.
 * Y4. A history segment's file goes when neither the catalog nor a reader needs it, and it was there when the cycle began.
 */
import { HISTORY_DIRECTORY, historySegmentNumber } from "../checkpoint/history-files.ts";
import { settlePending } from "../checkpoint/index-pending.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { invariant } from "../errors.ts";
import { type HistoryReferences, LiveSet, mark, type TracedRoots, traceRoots } from "./mark.ts";
import { PackUse, type PackReport, sweepPacks } from "./sweep-packs.ts";
import {
  sweepChunks,
  sweepNodes,
  sweepPageHashes,
  type SweepReport,
  type SweepRequest,
} from "./sweep.ts";

export type GarbagePhase = "mark" | "pages" | "chunks" | "nodes" | "packs" | "history";

export interface GarbageProgress {
  readonly phase: GarbagePhase;
  /** Nodes visited, rows or files found dead, in this phase. */
  readonly done: number;
}

/** Sizes in bytes. */
export interface GarbageReport {
  /** True: nothing was changed, the numbers say what would be. */
  readonly isDryRun: boolean;
  /** By which the files of chunks and history became smaller. */
  readonly freedBytes: number;
  /** Pages that no writer finds any more. */
  readonly pages: number;
  readonly chunks: { readonly count: number; readonly bytes: number };
  /** In the catalog, which uses their place again. */
  readonly nodes: { readonly count: number; readonly bytes: number };
  /** Files that went; what was alive in them was copied first, `holes` chunks of it without their dead pages. */
  readonly packs: {
    readonly count: number;
    readonly bytes: number;
    readonly copiedBytes: number;
    readonly holes: number;
  };
  readonly history: { readonly count: number; readonly bytes: number };
  /** Of what stays. */
  readonly living: { readonly chunks: number; readonly nodes: number };
}

export interface CycleRequest {
  readonly state: StoreState;
  readonly references: HistoryReferences;
  /** Segments from this number on are written by later checkpoints. */
  readonly nextHistorySegment: number;
  readonly isDryRun: boolean;
  /** Whether the caller waits for it: then syncs block. */
  readonly isBlocking: boolean;
}

interface HistoryReport {
  segments: number;
  segmentBytes: number;
}

export class GarbageCycle {
  readonly #request: CycleRequest;
  readonly #live: LiveSet = new LiveSet();
  readonly #traced: TracedRoots;
  readonly #packsBelow: number;
  readonly #counts: SweepReport & PackReport & HistoryReport = {
    pageHashes: 0,
    chunks: 0,
    chunkBytes: 0,
    nodes: 0,
    nodeBytes: 0,
    packs: 0,
    packBytes: 0,
    copiedBytes: 0,
    holes: 0,
    segments: 0,
    segmentBytes: 0,
  };
  readonly #steps: Generator<void, void, void>;
  #phase: GarbagePhase = "mark";
  #isDone = false;
  /** Nothing can be done before other work has ended. */
  isWaiting = false;

  /** Y2. */
  constructor(request: CycleRequest) {
    const { state, isDryRun } = request;
    invariant(state.barrier.marks === null, "One cycle at a time");
    this.#request = request;
    if (!isDryRun) {
      settlePending(state);
      state.chunks.finishPack();
    }
    this.#packsBelow = state.chunks.nextPackNumber;
    this.#traced = traceRoots(state);
    state.barrier.marks = this.#live;
    this.#steps = this.#run();
  }

  get progress(): GarbageProgress {
    const { pageHashes, chunks, nodes, packs, segments } = this.#counts;
    const done = {
      mark: this.#live.nodes.count,
      pages: pageHashes,
      chunks,
      nodes,
      packs,
      history: segments,
    };
    return { phase: this.#phase, done: done[this.#phase] };
  }

  /** Does a little; true when the cycle is done. After an error it has ended. */
  step(): boolean {
    if (this.#steps.next().done === true) this.#isDone = true;
    return this.#isDone;
  }

  /** Gives up what is not done yet. */
  end(): void {
    this.#steps.return();
    this.#release();
  }

  report(): GarbageReport {
    const counts = this.#counts;
    return {
      isDryRun: this.#request.isDryRun,
      freedBytes: counts.packBytes - counts.copiedBytes + counts.segmentBytes,
      pages: counts.pageHashes,
      chunks: { count: counts.chunks, bytes: counts.chunkBytes },
      nodes: { count: counts.nodes, bytes: counts.nodeBytes },
      packs: {
        count: counts.packs,
        bytes: counts.packBytes,
        copiedBytes: counts.copiedBytes,
        holes: counts.holes,
      },
      history: { count: counts.segments, bytes: counts.segmentBytes },
      living: { chunks: this.#live.chunks.count, nodes: this.#live.nodes.count },
    };
  }

  *#run(): Generator<void, void, void> {
    const { state, references, isDryRun } = this.#request;
    const live = this.#live;
    const report = this.#counts;
    const named = new Set<number>();
    try {
      const onSegment = (segment: number): void => void named.add(segment);
      yield* mark({ state, live, traced: this.#traced, references, onSegment });
      const sweep: SweepRequest = { state, live, report, isDryRun };
      this.#phase = "pages";
      yield* sweepPageHashes(sweep);
      this.#phase = "chunks";
      const use = new PackUse();
      const kept = packsOfPending(state);
      yield* sweepChunks(sweep, use);
      this.#phase = "nodes";
      yield* sweepNodes(sweep);
      this.#phase = "packs";
      const sync = (): Generator<void, void, void> => this.#sync();
      if (!isDryRun) yield* sync(); // Then no file that goes is open for writing.
      const packsBelow = this.#packsBelow;
      yield* sweepPacks({ state, live, use, packsBelow, kept, report, isDryRun, sync });
      this.#phase = "history";
      yield* this.#sweepHistory(named);
    } finally {
      this.#release();
    }
  }

  /** Y4. */
  *#sweepHistory(named: ReadonlySet<number>): Generator<void, void, void> {
    const { state, references, nextHistorySegment, isDryRun } = this.#request;
    const { historySegments } = this.#traced;
    for (const name of state.storage.listSync(HISTORY_DIRECTORY)) {
      const segment = historySegmentNumber(name);
      if (segment === null || segment >= nextHistorySegment) continue;
      if (named.has(segment) || historySegments.has(segment)) continue;
      const size = isDryRun ? state.history.size(segment) : state.history.remove(segment);
      references.forget(segment);
      this.#counts.segments++;
      this.#counts.segmentBytes += size;
      yield;
    }
  }

  *#sync(): Generator<void, void, void> {
    const { chunks } = this.#request.state;
    if (this.#request.isBlocking) {
      chunks.syncSync();
      return;
    }
    const outcome: { isSettled: boolean; failure: Error | null } = {
      isSettled: false,
      failure: null,
    };
    chunks.sync().then(
      () => (outcome.isSettled = true),
      (error: unknown) => {
        outcome.isSettled = true;
        outcome.failure = error instanceof Error ? error : new Error(String(error));
      },
    );
    this.isWaiting = true;
    while (!outcome.isSettled) yield;
    this.isWaiting = false;
    if (outcome.failure !== null) throw outcome.failure;
  }

  #release(): void {
    const { barrier } = this.#request.state;
    if (barrier.marks === this.#live) barrier.marks = null;
  }
}

/** E3. */
function packsOfPending({ pending }: StoreState): Set<number> {
  const packs = new Set<number>();
  for (const { location } of pending.chunks.values())
    if (location !== null) packs.add(location.pack);
  return packs;
}
