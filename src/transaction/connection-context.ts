/** What the files of one connection share: how durable its commits are, and what its calls have to wait for. */
import type { Durability } from "./commit-pipeline.ts";
import type { ParkedRevision } from "./parked-revision.ts";
import type { RevisionFile } from "./revision-file.ts";
import type { Timeline } from "./timeline.ts";

/**
 * Asked before a revision is opened, as the connection's own or attached: what may be done with it. Throws when that is nothing.
 */
export type Admit = (revision: string, isMain: boolean) => "read" | "write";

export class ConnectionContext {
  durability: Durability;
  /** Set while an asynchronous call runs: commits are appended, and made durable by a later group flush. */
  isDeferred = false;
  /** Its calls are awaited: it can wait for the write lock, and lets those who waited longer go first. */
  isAwaited = false;
  /** The timeline whose writer has just kept a transaction from writing. */
  blockedOn: Timeline | null = null;
  /** Of the open transaction, for outcomes.ts: 32 hexadecimal digits; null: it has none. */
  transactionId: string | null = null;
  /** The open transaction is an optimistic one. */
  isConcurrent = false;
  /** Set while the connection is parked. */
  parked: ParkedRevision | null = null;
  /** The newest commit made with `isDeferred`. */
  lastLsn = 0;
  /** What its snapshots have shown is durable when the log is up to here (T3 in timeline.ts). */
  seenLsn = 0;
  /** What it is told of must be in object storage, not only in the log. */
  awaitsUpload = false;
  /** Called with the LSN of each commit that is visible and not deferred; what it throws is thrown by the COMMIT. */
  afterCommit: ((lsn: number) => void) | null = null;
  /** A branch that it writes to does not grow past this. */
  branchBytesMax: number = Infinity;
  /** Null: everything may be opened. Not asked when a parked connection is opened again. */
  admit: Admit | null = null;
  readonly files: Set<RevisionFile> = new Set();

  constructor(durability: Durability) {
    this.durability = durability;
  }
}

/** Of PRAGMA synchronous. */
export function parseSynchronous(value: string): Durability {
  switch (value.toLowerCase()) {
    case "0":
    case "off":
    case "false":
    case "no":
      return "off";
    case "1":
    case "normal":
      return "normal";
    default:
      return "full";
  }
}
