/**
 * Which transactions have committed, by their id: a client that lost the answer asks, and a request that is made twice commits
 * once. Filled from the catalog and the log when the store is opened, by commits from then on.
 *
 *   in the log --checkpoint--> in a row of the catalog --older than the window, or too many--> gone
 *
 * U1. An id is noted when its record is in the log, so that no second record can have it.
 * U2. Everything committed after `completeSince` is known. What is gone was committed at that time or before.
 * U3. Bounded: at most `countMax`, the newest.
 * U4. A damaged row does not keep the store from opening: nothing is known then of what was committed before it was opened and is
 *     in no other row. A check reports it.
 */
import { StoreError } from "../errors.ts";
import { OUTCOME_RUN_MAX, type OutcomeRow } from "../catalog/outcome-run.ts";

export interface CommittedTransaction extends OutcomeRow {
  /** Of its record, or, once it is in the catalog, of a later one. */
  readonly lsn: number;
}

/** A row of the catalog: transactions up to this LSN. */
interface StoredRun {
  readonly lsn: number;
  readonly newestMs: number;
}

export interface OutcomeOptions {
  /** How long an id is kept at least, unless there are too many. */
  readonly windowMs: number;
  readonly countMax: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** What a checkpoint writes: runs to be put, and those to be deleted, by their LSN. */
export interface OutcomeChanges {
  readonly put: readonly {
    readonly lsn: number;
    readonly transactions: readonly OutcomeRow[];
  }[];
  readonly deleted: readonly number[];
  readonly completeSinceMs: number;
}

export class Outcomes {
  readonly #options: OutcomeOptions;
  /** In the order of commits. */
  readonly #byId: Map<string, CommittedTransaction> = new Map();
  /** Not in the catalog yet. */
  #fresh: CommittedTransaction[] = [];
  /** Ascending. */
  #stored: StoredRun[] = [];
  /** The newest that is gone since the store was opened. */
  #goneMs = 0;
  /** What was committed up to then was gone before, or its row is damaged. */
  #unknownMs = 0;

  constructor(options: OutcomeOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byId.size;
  }

  find(id: string): CommittedTransaction | undefined {
    return this.#byId.get(id);
  }

  /** Throws ALREADY_COMMITTED for an id that is known. */
  requireNew(id: string): void {
    const known = this.#byId.get(id);
    if (known === undefined) return;
    const { version, databaseId, timestampMs } = known;
    throw new StoreError(
      "ALREADY_COMMITTED",
      `Cannot commit transaction "${id}": it has committed as version ${version}; take that as its outcome`,
      { details: { id, version, databaseId, timestampMs } },
    );
  }

  /** U2. Milliseconds since 1970. */
  completeSince(): number {
    const { now, windowMs } = this.#options;
    return Math.max(this.#goneMs, this.#unknownMs, now() - windowMs, 0);
  }

  /** U1. */
  add(transaction: CommittedTransaction): void {
    this.#byId.set(transaction.id, transaction);
    this.#fresh.push(transaction);
    this.#trim();
  }

  /** From the catalog, in the order of commits, before anything is added. Null: a row that is damaged (U4). */
  load(runs: Iterable<{ lsn: number; transactions: readonly OutcomeRow[] | null }>): void {
    for (const { lsn, transactions } of runs) {
      let newestMs = 0;
      if (transactions === null) {
        newestMs = this.#options.now();
        this.#unknownMs = newestMs;
        this.#stored.push({ lsn, newestMs });
        continue;
      }
      for (const transaction of transactions) {
        this.#byId.set(transaction.id, { ...transaction, lsn });
        newestMs = Math.max(newestMs, transaction.timestampMs);
      }
      this.#stored.push({ lsn, newestMs });
    }
    this.#trim();
  }

  /** In the order of commits. */
  ofDatabase(databaseId: number): OutcomeRow[] {
    const rows: OutcomeRow[] = [];
    for (const { id, databaseId: of, version, timestampMs } of this.#byId.values())
      if (of === databaseId) rows.push({ id, databaseId, version, timestampMs });
    return rows;
  }

  /** Those of a database that has come from elsewhere. They are in the catalog already, in the row of that LSN. */
  adopt(lsn: number, transactions: readonly OutcomeRow[]): void {
    let newestMs = 0;
    for (const transaction of transactions) {
      this.#byId.set(transaction.id, { ...transaction, lsn });
      newestMs = Math.max(newestMs, transaction.timestampMs);
    }
    const last = this.#stored.at(-1);
    if (last?.lsn === lsn) newestMs = Math.max(newestMs, this.#stored.pop()!.newestMs);
    this.#stored.push({ lsn, newestMs });
    this.#trim();
  }

  /** What the catalog says. */
  setCompleteSince(timestampMs: number): void {
    this.#unknownMs = Math.max(this.#unknownMs, timestampMs);
  }

  /** Drops what the window has passed. What it returns is to be in the catalog, or the store opened again. */
  checkpoint(): OutcomeChanges {
    const { now, windowMs } = this.#options;
    const endMs = now() - windowMs;
    for (const transaction of this.#byId.values()) {
      if (transaction.timestampMs > endMs) break;
      this.#drop(transaction);
    }
    const put: { lsn: number; transactions: CommittedTransaction[] }[] = [];
    const fresh = this.#fresh.filter(({ id }) => this.#byId.has(id));
    this.#fresh = [];
    for (let start = 0; start < fresh.length; start += OUTCOME_RUN_MAX) {
      const transactions = fresh.slice(start, start + OUTCOME_RUN_MAX);
      const { lsn, timestampMs } = transactions.at(-1)!;
      put.push({ lsn, transactions });
      this.#stored.push({ lsn, newestMs: timestampMs });
    }
    const deleted: number[] = [];
    this.#stored = this.#stored.filter(({ lsn, newestMs }) => {
      if (newestMs > Math.max(this.#goneMs, endMs)) return true;
      deleted.push(lsn);
      return false;
    });
    return { put, deleted, completeSinceMs: Math.max(this.#goneMs, this.#unknownMs) };
  }

  /** U3. */
  #trim(): void {
    for (const transaction of this.#byId.values()) {
      if (this.#byId.size <= this.#options.countMax) return;
      this.#drop(transaction);
    }
  }

  #drop({ id, timestampMs }: CommittedTransaction): void {
    this.#byId.delete(id);
    this.#goneMs = Math.max(this.#goneMs, timestampMs);
  }
}
