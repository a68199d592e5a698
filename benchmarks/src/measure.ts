/** Alternated rounds, medians, and the rows of the report. */

/** One timed round of one side. */
export interface Sample {
  readonly operations: number;
  readonly ms: number;
}

export type Round = () => Sample | Promise<Sample>;

export interface Comparison {
  readonly bough: Round;
  readonly sqlite: Round;
}

export interface ResultRow {
  readonly item: string;
  readonly title: string;
  readonly unit: string;
  readonly bough: number;
  /** better-sqlite3, or what the row names; null when there is nothing to compare with. */
  readonly baseline: number | null;
  readonly baselineName: string;
  /** Higher is better: throughput of bough over that of the baseline. */
  readonly ratio: number | null;
  /** As the project wants it, for people. */
  readonly wanted: string;
  /** Null when nothing is wanted. */
  readonly isMet: boolean | null;
  readonly rounds: { readonly bough: readonly number[]; readonly baseline: readonly number[] };
  /** Said at the end of the row: bough | baseline. */
  readonly detail?: string;
  /** The same for programs. */
  readonly figures?: {
    readonly bough: Readonly<Record<string, number>>;
    readonly baseline: Readonly<Record<string, number>>;
  };
}

export function timed(operations: number, body: () => void): Sample {
  const start = performance.now();
  body();
  return { operations, ms: performance.now() - start };
}

export async function timedAsync(operations: number, body: () => Promise<void>): Promise<Sample> {
  const start = performance.now();
  await body();
  return { operations, ms: performance.now() - start };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function percentile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? NaN;
}

export interface Wanted {
  readonly ratio?: number;
}

/**
 * One warm-up round each, then `rounds` rounds with the order of the sides changing from round to round. Returns the operations per
 * second of each side's rounds. `onWarm`: called after the first.
 */
export async function alternate(
  sides: readonly Round[],
  rounds: number,
  onWarm: () => void = () => undefined,
): Promise<number[][]> {
  const rates = sides.map((): number[] => []);
  for (const side of sides) {
    await settle();
    await side();
  }
  onWarm();
  const order = sides.map((side, index) => ({ side, index }));
  for (let round = 0; round < rounds; round++) {
    for (const { side, index } of round % 2 === 0 ? order : order.toReversed()) {
      await settle();
      const { operations, ms } = await side();
      rates[index]!.push((operations / ms) * 1000);
    }
  }
  return rates;
}

export async function compare(
  row: { readonly item: string; readonly title: string; readonly unit: string },
  { bough, sqlite }: Comparison,
  { rounds, wanted }: { readonly rounds: number; readonly wanted: number | null },
): Promise<ResultRow> {
  const [ours = [], theirs = []] = await alternate([bough, sqlite], rounds);
  const rates = { bough: ours, baseline: theirs };
  const left = median(rates.bough);
  const right = median(rates.baseline);
  const ratio = left / right;
  return {
    ...row,
    bough: left,
    baseline: right,
    baselineName: "better-sqlite3",
    ratio,
    wanted: wanted === null ? "" : `${wanted}x`,
    isMet: wanted === null ? null : ratio >= wanted,
    rounds: rates,
  };
}

/** A row that stands for itself: a time or a size. */
export function fact(
  row: { readonly item: string; readonly title: string; readonly unit: string },
  value: number,
  given: {
    readonly baseline?: number;
    readonly baselineName?: string;
    /** At most this. */
    readonly max?: number;
    readonly min?: number;
  } = {},
): ResultRow {
  const { baseline, baselineName, max, min } = given;
  let wanted = "";
  let isMet: boolean | null = null;
  if (max !== undefined) {
    wanted = `<= ${max}`;
    isMet = value <= max;
  } else if (min !== undefined) {
    wanted = `>= ${min}`;
    isMet = value >= min;
  }
  return {
    ...row,
    bough: value,
    baseline: baseline ?? null,
    baselineName: baselineName ?? (baseline === undefined ? "" : "better-sqlite3"),
    ratio: null,
    wanted,
    isMet,
    rounds: { bough: [], baseline: [] },
  };
}

/** Lets background work of the round before (a checkpoint) come to its end, so that it is not timed as the other's. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 400; turn++) await new Promise((resolve) => setImmediate(resolve));
  globalThis.gc?.();
}
