/** What a file of SQLite is, in the store's words. */
import { StoreError } from "../errors.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Timeline } from "./timeline.ts";

const SQLITE_READONLY = 8;

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
