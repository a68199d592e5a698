/**
 * How long versions are kept. A branch goes by what it says itself, else by what its database says, else by the defaults.
 *
 * Y1. A policy only ever says what may go: nothing goes before an expiry (expiry.ts) has run.
 */
import type { BranchRow, DatabaseRow, RetentionOverrides } from "../catalog/rows.ts";

/** Null: no bound. */
export interface RetentionPolicy {
  /** Every commit is readable for so long. */
  readonly everyCommitMs: number | null;
  /** History segments of the database in bytes; above it the oldest go, however new their commits are. */
  readonly historyBytesMax: number | null;
  /** The last checkpoint of each hour is kept for so long. */
  readonly hourlyMs: number | null;
  /** The last checkpoint of each day (UTC) is kept for so long. */
  readonly dailyMs: number | null;
  /** A deleted branch or database can come back for so long. */
  readonly undeleteMs: number | null;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A deletion is often noticed after a weekend. */
export const DEFAULT_RETENTION: RetentionPolicy = {
  everyCommitMs: DAY_MS,
  historyBytesMax: null,
  hourlyMs: 7 * DAY_MS,
  dailyMs: 30 * DAY_MS,
  undeleteMs: 7 * DAY_MS,
};

const FIELDS: readonly (keyof RetentionPolicy)[] = [
  "everyCommitMs",
  "historyBytesMax",
  "hourlyMs",
  "dailyMs",
  "undeleteMs",
];

/** What holds for a branch, or (null) for a database. */
export function retentionOf(database: DatabaseRow, branch: BranchRow | null): RetentionPolicy {
  return { ...DEFAULT_RETENTION, ...database.retention, ...branch?.retention };
}

/** `before` with what `changes` says; Infinity is the same as null. Throws TypeError or RangeError for what is no policy. */
export function changedRetention(
  before: RetentionOverrides,
  changes: RetentionOverrides,
): RetentionOverrides {
  const after: Partial<Record<keyof RetentionPolicy, number | null>> = { ...before };
  for (const [name, given] of Object.entries(changes)) {
    const field = FIELDS.find((candidate) => candidate === name);
    if (field === undefined)
      throw new TypeError(`Cannot set "${name}" of a retention: it has ${FIELDS.join(", ")}`);
    const value: unknown = given;
    if (value === undefined) continue;
    if (value === null || value === Infinity) after[field] = null;
    else if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0)
      after[field] = value;
    else
      throw new RangeError(
        `Cannot set "${name}" of a retention to ${typeof value === "number" ? value : `a ${typeof value}`}: it must be a whole number from 0, or null for no bound`,
      );
  }
  return after;
}

/** The oldest time that is still within a window; what has an earlier or the same time is not. */
export function windowStart(nowMs: number, windowMs: number | null): number {
  return windowMs === null ? -Infinity : nowMs - windowMs;
}
