/**
 * When to merge which catalog runs. Each run more is a read more, each merge writes again what was written before. The newest run,
 * which need not be stored by itself then, is merged with those before it: of all such merges the one is taken that writes
 * least for the runs that it saves, with a preference for long ones. The base is written anew when the others together have
 * BASE_RATIO times its size.
 *
 * V1. Who carries out the plan after each run that is added has at most RUNS_MAX runs.
 */
export interface PlannedRun {
  /** Bytes. */
  readonly size: number;
  readonly isBase: boolean;
}

/** The runs from `from` on, counted from the oldest, become one; a base when `from` is one. */
export interface MergePlan {
  readonly from: number;
}

const RUNS_MAX = 12;
const BASE_RATIO = 2;

/** Null: leave them as they are. `runs` from old to new, the first a base or none of them. */
export function planRuns(runs: readonly PlannedRun[]): MergePlan | null {
  if (runs.length <= RUNS_MAX) return null;
  const total = runs.reduce((sum, { size }) => sum + size, 0);
  const baseSize = runs[0]!.isBase ? runs[0]!.size : 0;
  if (baseSize > 0 && total - baseSize >= BASE_RATIO * baseSize) return { from: 0 };
  let best: MergePlan = { from: 0 };
  let bestCost = Infinity;
  let size = runs.at(-1)!.size;
  for (let from = runs.length - 2; from >= 0; from--) {
    size += runs[from]!.size;
    const saved = runs.length - 1 - from;
    const cost = size / (saved * saved);
    if (cost > bestCost) continue;
    best = { from };
    bestCost = cost;
  }
  return best;
}
