/**
 * SQLite's prepared statements, by SQL text: a Statement borrows one for the time of a call or of an iterator.
 *
 *   (none) --acquire--> idle <--> in use (a call; `locked` for an iterator)
 *   idle --evict, clear, close--> finalized (pointer 0) --acquire--> idle
 *
 * So the memory of prepared statements is bounded however many Statement objects there are. It cannot hang on their
 * garbage collection: JavaScript learns of that between turns of the event loop only, too late for a loop that
 * prepares.
 *
 * P1. A Statement whose handle was finalized gets another one when it runs next.
 * P2. While an iterator has the handle of an SQL text locked, others with that text get a handle of their own, which
 *     lives until its Statement is collected or the connection is closed.
 * P3. After a statement that changes the schema nothing stays cached: `prepare` must fail for a table that is gone.
 */
import { beginsConcurrent, withoutConcurrent } from "./begin-concurrent.ts";
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_OK, SQLITE_PREPARE_PERSISTENT } from "./constants.ts";
import { firstWord } from "./leading-words.ts";
import { NO_STATEMENT, requireSingleStatement } from "./sql-tail.ts";
import { isTrap } from "./trap.ts";

export interface StatementHandle {
  /** sqlite3_stmt*, 0 after it was finalized. */
  pointer: number;
  /** An iterator is using it. */
  locked: boolean;
  readonly changesSchema: boolean;
  readonly beginsConcurrent: boolean;
  readonly cached: boolean;
  /** The pragma that the file answered instead of SQLite, which names the column after the answer then. */
  readonly answeredPragma: string | null;
}

const HANDLES_MAX = 500;
/** Of their texts, of which SQLite keeps a copy. */
const LENGTH_MAX = 4 * 1024 * 1024;

const DATA_STATEMENTS: ReadonlySet<string> = new Set([
  "begin",
  "commit",
  "delete",
  "end",
  "insert",
  "pragma",
  "release",
  "replace",
  "savepoint",
  "select",
  "update",
  "values",
  "with",
]);
const SCHEMA_KEYWORD = /\b(?:create|drop|alter|attach|detach|vacuum|reindex|analyze)\b/i;

/** May be true for one that does not: that costs time only. */
export function mayChangeSchema(sql: string): boolean {
  const word = firstWord(sql);
  return !DATA_STATEMENTS.has(word) && (word === "rollback" || SCHEMA_KEYWORD.test(sql));
}

export function mayChangeSchemaInScript(sql: string): boolean {
  return SCHEMA_KEYWORD.test(sql) || /\brollback\b/i.test(sql);
}

export class StatementCache {
  readonly #state: ConnectionState;
  readonly #cached = new Map<string, StatementHandle>();
  #cachedLength = 0;
  readonly #own = new Set<StatementHandle>();

  constructor(state: ConnectionState) {
    this.#state = state;
  }

  /** How many sqlite3_stmt there are. */
  get size(): number {
    return this.#cached.size + this.#own.size;
  }

  /** A handle that nobody uses. Throws what better-sqlite3's prepare throws. */
  acquire(sql: string): StatementHandle {
    return (
      this.find(sql) ?? this.add(sql, prepareStatement(this.#state, sql, SQLITE_PREPARE_PERSISTENT))
    );
  }

  /** A handle that nobody uses, if one is cached. */
  find(sql: string): StatementHandle | null {
    const known = this.#cached.get(sql);
    return known === undefined || known.locked ? null : known;
  }

  /** Takes over a statement that was just prepared, because `find` had none. */
  add(sql: string, pointer: number): StatementHandle {
    // The file sees a pragma when it is prepared, so each use needs a statement of its own.
    const cached = !this.#cached.has(sql) && firstWord(sql) !== "pragma";
    const { answeredPragma } = this.#state;
    const changesSchema = mayChangeSchema(sql);
    const handle = {
      pointer,
      locked: false,
      changesSchema,
      beginsConcurrent: isConcurrentBegin(this.#state, sql),
      cached,
      answeredPragma,
    };
    if (cached) {
      this.#cached.set(sql, handle);
      this.#cachedLength += sql.length;
      this.#evict(handle);
    } else {
      this.#own.add(handle);
    }
    return handle;
  }

  /** For a single use: give it to `finalize` afterwards. */
  acquireTemporary(sql: string): StatementHandle {
    return this.addTemporary(prepareStatement(this.#state, sql, 0));
  }

  /** Takes over a statement that was just prepared, for a single use. */
  addTemporary(pointer: number): StatementHandle {
    const handle = {
      pointer,
      locked: false,
      changesSchema: false,
      beginsConcurrent: false,
      cached: false,
      answeredPragma: this.#state.answeredPragma,
    };
    this.#own.add(handle);
    return handle;
  }

  finalize(handle: StatementHandle): void {
    this.#own.delete(handle);
    if (handle.pointer === 0 || this.#state.status === ConnectionStatus.failed) return;
    this.#state.runtime.exports.sqlite3_finalize(handle.pointer);
    handle.pointer = 0;
  }

  /** See P3. */
  clear(): void {
    for (const [sql, handle] of this.#cached) {
      if (!handle.locked) this.#forget(sql, handle);
    }
  }

  /** Before the connection is closed. */
  finalizeAll(): void {
    for (const handle of [...this.#cached.values(), ...this.#own]) this.finalize(handle);
    this.#cached.clear();
    this.#cachedLength = 0;
  }

  /** The oldest while there are too many: one that is still used is prepared again, and is then the newest. */
  #evict(newest: StatementHandle): void {
    for (const [sql, handle] of this.#cached) {
      if (this.#cached.size <= HANDLES_MAX && this.#cachedLength <= LENGTH_MAX) return;
      if (!handle.locked && handle !== newest) this.#forget(sql, handle);
    }
  }

  #forget(sql: string, handle: StatementHandle): void {
    this.#cached.delete(sql);
    this.#cachedLength -= sql.length;
    this.finalize(handle);
  }
}

function isConcurrentBegin({ runtime }: ConnectionState, sql: string): boolean {
  return runtime.vfs.setConcurrent !== undefined && beginsConcurrent(sql);
}

export function sqlForSqlite(state: ConnectionState, sql: string): string {
  return isConcurrentBegin(state, sql) ? withoutConcurrent(sql) : sql;
}

function prepareStatement(state: ConnectionState, sql: string, flags: number): number {
  const { runtime } = state;
  const { exports, heap } = runtime;
  const text = heap.allocateText(sqlForSqlite(state, sql));
  let pointer = 0;
  state.answeredPragma = null;
  state.enter();
  try {
    const tail = heap.scratch + 4;
    const code = exports.sqlite3_prepare_v3(state.pointer, text, -1, flags, heap.scratch, tail);
    // On failure the scratch words may be those of a query that a virtual table's factory made meanwhile.
    if (code !== SQLITE_OK) throw state.failure();
    pointer = heap.i32[heap.scratch >> 2]!;
    if (pointer === 0) throw new RangeError(NO_STATEMENT);
    requireSingleStatement(heap.u8, heap.i32[tail >> 2]!);
    return pointer;
  } catch (error) {
    if (isTrap(error)) throw runtime.fail(error);
    if (pointer !== 0) exports.sqlite3_finalize(pointer);
    throw error;
  } finally {
    state.leave();
    if (state.status === ConnectionStatus.ready) exports.sqlite3_free(text);
  }
}
