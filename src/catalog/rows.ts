/** The rows that the catalog keeps for names: what they mean and how they change is in src/branch/refs.ts. */

export interface CommitPointer {
  readonly timeline: number;
  readonly version: number;
}

/** What a database or a branch says itself of src/retention/policy.ts. Null: no bound. */
export interface RetentionOverrides {
  readonly everyCommitMs?: number | null;
  readonly historyBytesMax?: number | null;
  readonly hourlyMs?: number | null;
  readonly dailyMs?: number | null;
  readonly undeleteMs?: number | null;
}

export interface DatabaseRow {
  readonly id: number;
  name: string;
  readonly pageSize: number;
  readonly createdAtMs: number;
  deletedAtMs: number | null;
  nextVersion: number;
  nextBranchId: number;
  nextTimelineId: number;
  /** Commit timestamps never decrease within a database. */
  lastTimestampMs: number;
  retention?: RetentionOverrides;
}

/** The branch named `timeline` for versions greater than `afterVersion`, from `atMs` on. */
export interface BranchHistoryEntry {
  readonly timeline: number;
  readonly afterVersion: number;
  readonly atMs: number;
}

export interface BranchRow {
  readonly id: number;
  readonly databaseId: number;
  name: string;
  /** Null for main and for branches whose history starts empty. */
  readonly parentBranchId: number | null;
  readonly createdAtMs: number;
  deletedAtMs: number | null;
  isProtected: boolean;
  expiresAtMs: number | null;
  history: BranchHistoryEntry[];
  retention?: RetentionOverrides;
}

export interface TimelineRow {
  readonly id: number;
  readonly databaseId: number;
  readonly parent: CommitPointer | null;
  readonly createdAtMs: number;
  /**
   * Every commit of the timeline from this version on is readable, and some before it have expired. Missing: none has.
   * Greater than the head: the newest commits have gone, which no branch names any more.
   */
  everyCommitFrom?: number;
}

export interface TagRow {
  readonly databaseId: number;
  readonly name: string;
  readonly target: CommitPointer;
  readonly createdAtMs: number;
}
