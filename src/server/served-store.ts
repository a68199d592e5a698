/**
 * What the server needs of a store. Everything can be a promise, so that it can be in another thread; what every request needs is none where
 * the answer is there: a request has a dozen such calls, and each promise costs as much as a piece of the statement.
 *
 * F1. A connection belongs to whoever opened it until `close` has been called.
 * F2. A connection on a branch follows the branch, whatever is done to it: what it reads next is what the branch is then.
 */
import type {
  Executed,
  ExecuteRequest,
  RowSink,
  StatementDescription,
} from "../sqlite/async-executor.ts";
import type { Principal } from "./access.ts";
import type { CallLimits } from "../sqlite/async-calls.ts";
import type { DiskStatistics } from "../store/statistics.ts";
import type { StoreCounters } from "../store/store-counters.ts";
import type { ThreadLoad } from "../threads/owner.ts";

export interface ServedStore {
  /**
   * Throws FORBIDDEN, else DATABASE_NOT_FOUND and what else keeps a revision from being found. The connection writes and attaches
   * what the principal may.
   */
  open(revision: string, principal: Principal): ServedConnection | Promise<ServedConnection>;
  /** What a revision leads to now. Throws as `open`. */
  lookUp(revision: string): Promise<FoundRevision>;
  /** Does nothing when there is one of that name already. */
  ensureDatabase(name: string): Promise<void>;
  /** See Store.counters. */
  counters(): Promise<StoreCounters>;
  /** See Store.diskUse. */
  diskUse(): Promise<DiskStatistics>;
  /** What the heads of databases would take as SQLite files of their own, by name; those that are not there are left out. */
  headBytes(names: readonly string[]): Promise<readonly (readonly [name: string, bytes: number])[]>;
  /** Of the threads that have its databases; none: they are in this one. */
  readonly loads: readonly ThreadLoad[];
  /** Closes idle connections; the store itself belongs to whoever opened it. */
  close(): Promise<void>;
}

export interface FoundRevision {
  readonly database: string;
  readonly branch: string;
  /** It names a fixed version. */
  readonly isFixed: boolean;
}

export interface ServedConnection {
  /** No transaction is open; known without a call. */
  readonly isAutocommit: boolean;
  /** Nothing would be lost if another connection went on in its place. */
  readonly isClean: boolean;
  execute(request: ExecuteRequest, sink: RowSink, limits?: CallLimits): Promise<Executed>;
  script(sql: string, limits?: CallLimits): Promise<void>;
  describe(sql: string, limits?: CallLimits): Promise<StatementDescription>;
  rollBack(): Promise<void>;
  /**
   * Resolves when what it has told of so far is durable; null: there is nothing to wait for. Within a transaction that is what it has
   * committed before, with `isLast` also what the transaction has read: it ends now.
   */
  settled(isLast?: boolean): Promise<void> | null;
  /** Ends the statement that is running, if it can be reached. */
  interrupt(): void;
  /** Rolls back what is open. What is committed and not settled yet stays to be awaited. Null: it is done. */
  close(): Promise<void> | null;
}
