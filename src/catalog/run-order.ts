/**
 * Whether runs, from old to new, are a catalog, or a part of one: a list that lacks a run, or has one of another history, would answer
 * wrongly without any damage.
 *
 * H1. Each run follows the state that the one before it leaves: their marks are the same, number and random bytes.
 * H2. A catalog begins with a base, and has no other.
 */
import { StoreError } from "../errors.ts";
import { isSameMark } from "./run-format.ts";
import type { RunReader } from "./run-reader.ts";

/** Throws CORRUPT_CATALOG unless the runs are a whole catalog, or none. */
export function checkRunOrder(runs: readonly RunReader[]): void {
  const [first, ...rest] = runs;
  if (first === undefined) return;
  if (!first.scope.isBase) throw wrongOrder(first, "no run comes before it and it is not a base");
  for (const run of rest)
    if (run.scope.isBase) throw wrongOrder(run, "it is a base and runs come before it");
  checkRunsFollow(runs);
}

/** The same for runs that are only a part (H1). */
export function checkRunsFollow(runs: readonly RunReader[]): void {
  let last: RunReader | null = null;
  for (const run of runs) {
    if (last !== null && !isSameMark(run.scope.previous, last.scope.mark)) {
      const { sequence } = last.scope.mark;
      const what = `it follows batch ${run.scope.previous.sequence}; the run before it, "${last.path}", ends with ${sequence}, or with another batch of that number`;
      throw wrongOrder(run, what);
    }
    last = run;
  }
}

function wrongOrder(run: RunReader, what: string): StoreError {
  return new StoreError(
    "CORRUPT_CATALOG",
    `Cannot read catalog run "${run.path}" in its place: ${what}`,
    {
      details: { path: run.path },
    },
  );
}
