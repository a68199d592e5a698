/** The rows that the catalog keeps for names: what they mean and how they change is in src/branch/refs.ts. */

export interface CommitPointer {
  readonly timeline: number;
  readonly version: number;
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
}

export interface TimelineRow {
  readonly id: number;
  readonly databaseId: number;
  readonly parent: CommitPointer | null;
  readonly createdAtMs: number;
}

export interface TagRow {
  readonly databaseId: number;
  readonly name: string;
  readonly target: CommitPointer;
  readonly createdAtMs: number;
}
