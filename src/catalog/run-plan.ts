/**
 * When to merge which catalog runs. Each run more is a read more, each merge writes again what was written before. Of all merges of
 * neighbours the one is taken that writes least for the runs that it saves, with a preference for long ones; the base is written
 * anew when the others together have BASE_RATIO times its size.
 *
 * V1. Carrying out plans until there is none leaves at most RUNS_MAX runs.
 */
export interface PlannedRun {
  /** Bytes. */
  readonly size: number;
  readonly isBase: boolean;
}

/** Merges runs [from, to], counted from the oldest; the result is a base when `from` is one. */
export interface MergePlan {
  readonly from: number;
  readonly to: number;
}

export const RUNS_MAX = 12;
const BASE_RATIO = 2;

/** Null: leave them as they are. `runs` from old to new, the first a base or none of them. */
export function planRuns(runs: readonly PlannedRun[]): MergePlan | null {
  if (runs.length <= RUNS_MAX) return null;
  const all: MergePlan = { from: 0, to: runs.length - 1 };
  const hasBase = runs[0]!.isBase;
  const total = runs.reduce((sum, { size }) => sum + size, 0);
  const baseSize = hasBase ? runs[0]!.size : 0;
  if (hasBase && total - baseSize >= BASE_RATIO * baseSize) return all;
  let best = all;
  let bestCost = total / all.to;
  for (let from = hasBase ? 1 : 0; from < all.to; from++) {
    let size = runs[from]!.size;
    for (let to = from + 1; to < runs.length; to++) {
      size += runs[to]!.size;
      const saved = to - from;
      const cost = size / (saved * saved);
      if (cost >= bestCost) continue;
      best = { from, to };
      bestCost = cost;
    }
  }
  return best;
}
