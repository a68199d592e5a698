/** What a check finds, and where. */
import { StoreError, type StoreErrorCode } from "../errors.ts";

export interface CheckReport {
  readonly ok: boolean;
  readonly problems: readonly CheckProblem[];
  readonly counts: CheckCounts;
}

/** INTEGRITY: SQLite's own check of a head, whose pages are as they were written; FOREIGN_KEY: rows without parent. */
export type CheckCode = StoreErrorCode | "INTEGRITY" | "FOREIGN_KEY";

export interface CheckProblem {
  readonly code: CheckCode;
  readonly message: string;
  /**
   * What cannot be read whole: "shop" and "shop/dev" are heads, "shop@120" a checkpointed version, "shop@tag" a tag,
   * "shop@121..139" the versions between two checkpoints. Empty: nothing that can be named depends on it.
   */
  readonly revisions: readonly string[];
  /** Different pages that cannot be read because of this, over all these revisions; null where nothing says how many. */
  readonly pages: number | null;
}

/** What was looked at. */
export interface CheckCounts {
  catalogRows: number;
  /** Page maps: of heads and of kept versions. */
  roots: number;
  nodes: number;
  packs: number;
  chunks: number;
  historySegments: number;
  historyEntries: number;
  logSegments: number;
  logRecords: number;
  /** Heads and tags that SQLite itself checked. */
  heads: number;
}

export type CheckPhase = "catalog" | "log" | "pages" | "chunks" | "history" | "sql";

export interface CheckProgress {
  readonly phase: CheckPhase;
  readonly done: number;
  /** Null while it is not known. */
  readonly total: number | null;
}

export interface CheckOptions {
  /**
   * Also: recompute the ids of chunks and the hashes of pages, apply every change in the history, and let SQLite check
   * every head and tag.
   */
  readonly deep?: boolean | undefined;
  readonly onProgress?: ((progress: CheckProgress) => void) | undefined;
}

/** The thing that is damaged or missing: what a repair has to bring back. */
export type Subject =
  | { readonly kind: "header" | "catalog" | "log" }
  /** `key` is that of the catalog row. */
  | { readonly kind: "row"; readonly key: Uint8Array }
  | { readonly kind: "node"; readonly id: Uint8Array }
  | { readonly kind: "chunk"; readonly id: Uint8Array }
  | { readonly kind: "pack"; readonly number: number }
  | { readonly kind: "history"; readonly segment: number };

export interface Problem {
  readonly code: CheckCode;
  readonly message: string;
  readonly revisions: Set<string>;
  /** One message may stand for several things: all chunks of a pack. None: SQLite's findings, page maps that are too small. */
  readonly subjects: Subject[];
  /** See CheckProblem. */
  pages: number | null;
}

/** The problems so far, each thing's once, and what was counted. */
export class Findings {
  readonly counts: CheckCounts = {
    catalogRows: 0,
    roots: 0,
    nodes: 0,
    packs: 0,
    chunks: 0,
    historySegments: 0,
    historyEntries: 0,
    logSegments: 0,
    logRecords: 0,
    heads: 0,
  };
  readonly #problems: Map<string, Problem> = new Map();

  /** `message` is what makes a problem another one. */
  add(code: CheckCode, message: string, revisions: Iterable<string> = []): Problem {
    const key = `${code} ${message}`;
    let problem = this.#problems.get(key);
    if (problem === undefined)
      this.#problems.set(
        key,
        (problem = { code, message, revisions: new Set(), subjects: [], pages: null }),
      );
    for (const revision of revisions) problem.revisions.add(revision);
    return problem;
  }

  /** For a StoreError; anything else is a bug, or a failure of the system or the network, and is thrown on. */
  addError(error: unknown, revisions: Iterable<string> = []): Problem {
    if (!(error instanceof StoreError) || NO_ANSWER.has(error.code)) throw error;
    return this.add(error.code, error.message, revisions);
  }

  /** The same, and says what is damaged. */
  addDamage(subject: Subject, error: unknown, revisions: Iterable<string> = []): Problem {
    const problem = this.addError(error, revisions);
    problem.subjects.push(subject);
    return problem;
  }

  /** For what turned out to be no damage. */
  retract({ code, message }: Problem): void {
    this.#problems.delete(`${code} ${message}`);
  }

  problems(): IterableIterator<Problem> {
    return this.#problems.values();
  }

  get hasProblems(): boolean {
    return this.#problems.size > 0;
  }

  report(): CheckReport {
    const problems = [...this.#problems.values()].map(({ code, message, revisions, pages }) => ({
      code,
      message,
      revisions: [...revisions].sort(),
      pages,
    }));
    return { ok: problems.length === 0, problems, counts: this.counts };
  }
}

/** Says nothing about what was to be read. */
const NO_ANSWER: ReadonlySet<string> = new Set([
  "REMOTE_UNAVAILABLE",
  "REMOTE_DENIED",
  "TIMEOUT",
  "CANCELLED",
  "STORE_CLOSED",
]);

/** Lets other work go on. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
