/** What the partitions of a store report, as one report of the store. */
import type { CheckProblem, CheckReport } from "../integrity/report.ts";
import type { HeldSpace } from "./garbage-holders.ts";
import type { Outcome } from "./outcome.ts";
import type { DiskStatistics, StoreStatistics } from "./statistics.ts";

/** A report whose numbers count things, in fields of its own and of objects in it. */
type Countable = { readonly [Name in string]: number | boolean | string | null | Countable };

/** Adds up all numbers; what is no number is as in the first. At least one. */
export function sumOf<T extends object>(reports: readonly T[]): T {
  const [first, ...others] = reports as readonly (T & Countable)[];
  const sum = Object.entries(first!).map(([name, value]) => {
    if (typeof value === "object" && value !== null)
      return [name, sumOf(reports.map((report) => (report as Countable)[name] as Countable))];
    if (typeof value !== "number") return [name, value];
    return [name, others.reduce((total, other) => total + Number(other[name]), value)];
  });
  return Object.fromEntries(sum) as T;
}

/** Of partitions in order, from the first one on. */
export function wholeCheck(reports: readonly CheckReport[], first = 0): CheckReport {
  return {
    ok: reports.every(({ ok }) => ok),
    problems: reports.flatMap(({ problems }, index) =>
      problems.map((problem) => ofPartition(problem, first + index)),
    ),
    counts: sumOf(reports.map(({ counts }) => counts)),
  };
}

/** Of the same store. */
export function addCheck(left: CheckReport, right: CheckReport): CheckReport {
  return {
    ok: left.ok && right.ok,
    problems: [...left.problems, ...right.problems],
    counts: sumOf([left.counts, right.counts]),
  };
}

function ofPartition(problem: CheckProblem, index: number): CheckProblem {
  return { ...problem, message: `Partition ${index}: ${problem.message}` };
}

/** Databases are in one partition each, and share nothing with those of others. */
export function wholeStatistics(
  reports: readonly StoreStatistics[],
  disk: DiskStatistics,
): StoreStatistics {
  const sums = sumOf(reports.map(({ databases: _databases, disk: _disk, ...counts }) => counts));
  const databases = reports
    .flatMap((report) => report.databases)
    .sort((left, right) => (left.name < right.name ? -1 : 1));
  return { ...sums, databases, disk };
}

export function wholeHeldSpace(reports: readonly HeldSpace[]): HeldSpace {
  const { sharedBytes, historyBytes } = sumOf(
    reports.map((report) => ({
      sharedBytes: report.sharedBytes,
      historyBytes: report.historyBytes,
    })),
  );
  const holders = reports
    .flatMap((report) => report.holders)
    .sort((left, right) => right.ownBytes - left.ownBytes);
  return { holders, sharedBytes, historyBytes };
}

/** A transaction has committed in one partition, or in none. */
export function wholeOutcome(outcomes: readonly Outcome[]): Outcome {
  const decided =
    // A partition that has handed the database over still knows, but not the name.
    outcomes.find((outcome) => outcome.committed === true && outcome.database !== null) ??
    outcomes.find(({ committed }) => committed === true) ??
    outcomes.find((outcome) => outcome.committed === null && outcome.reason === "running") ??
    outcomes.find(({ committed }) => committed === null);
  if (decided !== undefined) return decided;
  const since = Math.max(
    ...outcomes.map((outcome) => (outcome.committed === false ? outcome.since.getTime() : 0)),
  );
  return { committed: false, since: new Date(since) };
}
