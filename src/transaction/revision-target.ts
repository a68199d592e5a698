/** What a file of SQLite is, in the store's words. */
import { StoreError } from "../errors.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Timeline } from "./timeline.ts";

const SQLITE_READONLY = 8;
const SQLITE_FULL = 13;

/** What a revision names, while it is open: a moving branch or a fixed commit. */
export interface RevisionTarget {
  readonly database: string;
  readonly branch: string;
  readonly pageSize: number;
  /** A commit, which nobody can write; a branch may be read-only for one connection. */
  readonly isFixed: boolean;
  /** Why it cannot be written, as the end of a message; null when it can. */
  readonly readOnlyReason: string | null;
  /** The snapshot that a transaction starting now reads. Throws when the branch is gone. */
  head(): Snapshot;
  /** Where commits go; null when it is read-only. */
  timeline(): Timeline | null;
}

export function readOnlyError({ database, branch, readOnlyReason }: RevisionTarget): Error {
  return new ReadOnlyRevisionError(`Cannot write to "${database}/${branch}": ${readOnlyReason}`);
}

/** Reaches the user as the error of the statement that wrote; `sqliteCode` makes SQLite see SQLITE_READONLY. */
export class ReadOnlyRevisionError extends StoreError {
  readonly sqliteCode: number = SQLITE_READONLY;

  constructor(message: string) {
    super("READ_ONLY", message);
  }
}

/** Makes SQLite roll back, as for a disk that is full. */
export function fullError({ database, branch }: RevisionTarget, bytesMax: number): Error {
  const error = new StoreError(
    "LIMIT",
    `Cannot write to "${database}/${branch}": it would have more than ${bytesMax} bytes, which is the limit of this connection`,
    { details: { bytesMax } },
  );
  return Object.assign(error, { sqliteCode: SQLITE_FULL });
}
