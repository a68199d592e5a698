/**
 * What a server asks of an awaited connection: a statement in one call, prepared, bound, run and read with its columns, and whether
 * the connection can serve somebody else afterwards.
 *
 * E1. Integers are exact: bigints, so that they can be told from floats. Parameters are bound by their index or their name,
 *     and every one of them must be given a value.
 * E2. Within BEGIN TRANSACTION READONLY, which SQLite takes for a plain BEGIN, what would write is refused as SQLITE_READONLY.
 * E3. A call resolves when it is executed. `settled` resolves when what it would tell of is durable (Y4 in async-calls.ts: what was read
 *     too); it must be awaited before anybody is told, after a failed statement too.
 * E4. What has left something on the connection beside the database makes it unclean: see traces.ts.
 * E5. The connection may have been parked before any call: what is of its instance is asked within the turn.
 */
import { StoreError } from "../errors.ts";
import type { AsyncCalls, CallLimits } from "./async-calls.ts";
import { type Binding, bindValue } from "./binder.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_DONE, SQLITE_ROW, SQLITE_TRANSIENT } from "./constants.ts";
import { FairTurns } from "./fair-turns.ts";
import { endOfWords } from "./leading-words.ts";
import { RowMode } from "./row-maker.ts";
import type { SqliteValue } from "./row-reader.ts";
import { SqliteError } from "./sqlite-error.ts";
import { MANY_STATEMENTS, NO_STATEMENT } from "./sql-tail.ts";
import { mayChangeSchemaInScript, type StatementHandle } from "./statement-cache.ts";
import { StatementState } from "./statement-state.ts";

export type ArgumentValue = number | bigint | string | Uint8Array | null;

export interface NamedArgument {
  /** With or without its prefix. */
  readonly name: string;
  readonly value: ArgumentValue;
}

export interface ExecuteRequest {
  readonly sql: string;
  readonly values: readonly ArgumentValue[];
  readonly namedValues: readonly NamedArgument[];
}

export interface ResultColumn {
  readonly name: string;
  readonly declaredType: string | null;
}

/** Takes the result of one statement. */
export interface RowSink {
  /** False: rows are not read. */
  readonly wantsRows: boolean;
  /** Before the first row, and once when there is none. The same array as long as the columns are the same. */
  begin(columns: readonly ResultColumn[]): void;
  /** True: no more before `drained` resolves. What it throws ends the statement. */
  row(values: readonly SqliteValue[]): boolean;
  drained(): Promise<void>;
}

export interface Executed {
  /** Rows that the statement itself has inserted, updated or deleted. */
  readonly changes: number;
  readonly lastInsertRowid: bigint;
}

export interface StatementDescription {
  /** With their prefix; null: it has no name. */
  readonly parameters: readonly (string | null)[];
  readonly columns: readonly ResultColumn[];
  readonly isExplain: boolean;
  readonly isReadOnly: boolean;
}

/** What is known of a prepared statement, as long as SQLite has not prepared it again. */
interface Facts {
  readonly statement: StatementState;
  readonly reprepares: number;
  readonly columns: readonly ResultColumn[];
  readonly parameterCount: number;
  readonly isReadOnly: boolean;
  readonly beginsReadOnly: boolean;
}

const BEGIN_READONLY: readonly (readonly string[])[] = [
  ["begin", "transaction", "readonly"],
  ["begin", "deferred", "transaction", "readonly"],
];
const PREFIXES = [":", "@", "$"];

export class AsyncExecutor {
  readonly #calls: AsyncCalls;
  readonly #facts: WeakMap<StatementHandle, Facts> = new WeakMap();
  #isReadOnlyTransaction = false;

  constructor(calls: AsyncCalls) {
    this.#calls = calls;
  }

  /** What the connection was opened with. */
  get owner(): object {
    return this.#calls.state.owner;
  }

  /** For one that several use, one after the other: see traces.ts, U5. */
  hideStatements(): void {
    this.#calls.state.hidesStatements = true;
  }

  /** No transaction is open. */
  get isAutocommit(): boolean {
    return this.#calls.isAutocommit;
  }

  /** Whether it can be given to somebody else (E4). */
  get isClean(): boolean {
    const { state, parking } = this.#calls;
    if (state.status === ConnectionStatus.parked) return true;
    return (
      state.status === ConnectionStatus.ready && this.isAutocommit && parking?.isClean === true
    );
  }

  /** Before it serves somebody else: what is left of the one before. */
  reset(): void {
    this.#isReadOnlyTransaction = false;
    this.#calls.parking?.forgetUse();
  }

  /** Null: there is nothing to wait for (E3). `isLast`: what is open ends with it. */
  settled(isLast = false): Promise<void> | null {
    return this.#calls.hooks?.settled(isLast || this.isAutocommit) ?? null;
  }

  /** One statement. */
  execute(request: ExecuteRequest, sink: RowSink, limits: CallLimits = {}): Promise<Executed> {
    const calls = this.#calls;
    return calls.turn(limits, () => calls.untilWritable(() => this.#execute(request, sink)));
  }

  /** Any number of statements, without parameters; rows are dropped. Ends at the first error. */
  async script(sql: string, limits: CallLimits = {}): Promise<void> {
    const calls = this.#calls;
    await calls.turn(limits, async () => {
      const { exports, heap } = calls.runtime;
      let beginsReadOnly = false;
      const turns = new FairTurns();
      try {
        await calls.script(sql, {
          onStatement: (statement) => {
            this.#requireAllowed(exports.sqlite3_stmt_readonly(statement) !== 0);
            beginsReadOnly = isBeginReadOnly(
              heap.readCString(exports.sqlite3_sql(statement)) ?? "",
            );
          },
          afterStatement: async () => {
            if (beginsReadOnly) this.#isReadOnlyTransaction = true;
            if (calls.state.fileOpened) await calls.settleAttachedFiles();
            await turns.next();
          },
        });
      } finally {
        if (mayChangeSchemaInScript(sql)) calls.state.schemaMayHaveChanged();
      }
    });
  }

  describe(sql: string, limits: CallLimits = {}): Promise<StatementDescription> {
    const calls = this.#calls;
    return calls.turn(limits, async () => {
      const { exports, heap } = calls.runtime;
      const handle = await this.#acquire(sql);
      try {
        const { pointer } = handle;
        const { columns, parameterCount, isReadOnly } = this.#factsOf(handle, sql);
        const parameters = Array.from({ length: parameterCount }, (_, index) =>
          heap.readCString(exports.sqlite3_bind_parameter_name(pointer, index + 1)),
        );
        const isExplain = exports.sqlite3_stmt_isexplain(pointer) !== 0;
        return { parameters, columns, isExplain, isReadOnly };
      } finally {
        calls.release(handle);
      }
    });
  }

  /** Of a transaction that is open; for one that nobody ends any more. */
  async rollBack(): Promise<void> {
    const calls = this.#calls;
    await calls.turn({}, async () => {
      if (calls.isAutocommit) return;
      await calls.script("ROLLBACK");
      calls.state.schemaMayHaveChanged();
    });
  }

  async #execute(request: ExecuteRequest, sink: RowSink): Promise<Executed> {
    const calls = this.#calls;
    const { state, runtime } = calls;
    const { exports } = runtime;
    const { sql } = request;
    const handle = state.statements.find(sql) ?? (await this.#acquire(sql));
    try {
      const facts = this.#factsOf(handle, sql);
      this.#requireAllowed(facts.isReadOnly);
      this.#bind(handle, facts, request);
      const changesBefore = exports.sqlite3_total_changes(state.pointer);
      await this.#run(handle, facts.statement, sink);
      if (facts.beginsReadOnly) this.#isReadOnlyTransaction = true;
      const isUnchanged = exports.sqlite3_total_changes(state.pointer) === changesBefore;
      return {
        changes: isUnchanged ? 0 : exports.sqlite3_changes(state.pointer),
        lastInsertRowid: exports.sqlite3_last_insert_rowid(state.pointer),
      };
    } finally {
      calls.release(handle);
    }
  }

  async #run(handle: StatementHandle, statement: StatementState, sink: RowSink): Promise<void> {
    const calls = this.#calls;
    let hasBegun = false;
    // SQLite may prepare the statement again in its first step: what the columns are is known after it.
    const begin = (): void => {
      hasBegun = true;
      sink.begin(this.#factsOf(handle, statement.sql).columns);
    };
    try {
      calls.enter();
      let code: number;
      for (;;) {
        const stepping = calls.steps(handle.pointer, () => {
          if (!hasBegun) begin();
          return sink.wantsRows && sink.row(statement.readRow() as SqliteValue[]);
        });
        code = typeof stepping === "number" ? stepping : await stepping;
        if (code !== SQLITE_ROW) break;
        await sink.drained();
      }
      if (!hasBegun && code === SQLITE_DONE) begin();
      const finishing = calls.finish(() => statement.finish(code));
      if (finishing !== null) await finishing;
    } catch (error) {
      // An unfinished statement that has written may commit in its reset.
      statement.abandon();
      throw error;
    }
  }

  async #acquire(sql: string): Promise<StatementHandle> {
    try {
      return await this.#calls.acquire(sql);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      if (error.message === NO_STATEMENT)
        throw new StoreError("SQL_NO_STATEMENT", "Cannot run the SQL text: it holds no statement");
      if (error.message === MANY_STATEMENTS)
        throw new StoreError(
          "SQL_MANY_STATEMENTS",
          "Cannot run the SQL text: it holds more than one statement",
        );
      throw error;
    }
  }

  #factsOf(handle: StatementHandle, sql: string): Facts {
    const { state, runtime } = this.#calls;
    const { exports, heap, layout } = runtime;
    const { pointer } = handle;
    // Without the layout nothing says whether SQLite has prepared it again.
    const reprepares = layout === null ? NaN : heap.i32[(pointer + layout.reprepares) >> 2]!;
    const known = this.#facts.get(handle);
    if (known !== undefined && known.reprepares === reprepares) return known;
    let statement = known?.statement;
    if (statement === undefined) {
      const returnsData = exports.sqlite3_column_count(pointer) > 0;
      statement = new StatementState(state, { sql, handle, returnsData });
      statement.mode = RowMode.raw;
      statement.safeIntegers = true;
    }
    const columns = statement.columnNames().map((name, index) => ({
      name,
      declaredType: heap.readCString(exports.sqlite3_column_decltype(pointer, index)),
    }));
    const facts: Facts = {
      statement,
      reprepares,
      columns,
      parameterCount: exports.sqlite3_bind_parameter_count(pointer),
      isReadOnly: exports.sqlite3_stmt_readonly(pointer) !== 0,
      beginsReadOnly: isBeginReadOnly(sql),
    };
    this.#facts.set(handle, facts);
    return facts;
  }

  /** E1. */
  #bind(
    { pointer }: StatementHandle,
    { parameterCount }: Facts,
    { values, namedValues }: Omit<ExecuteRequest, "sql">,
  ): void {
    if (values.length > parameterCount)
      throw argumentsInvalid(
        `there are ${values.length} values for ${parameterCount} ${parameterCount === 1 ? "parameter" : "parameters"}`,
      );
    if (parameterCount === 0 && namedValues.length === 0) return;
    const { runtime } = this.#calls;
    const { exports, heap } = runtime;
    const parameters = { count: parameterCount, named: [], anonymous: [] };
    const binding: Binding = {
      runtime,
      statement: pointer,
      parameters,
      lifetime: SQLITE_TRANSIENT,
    };
    const arenaMark = heap.arenaTop;
    try {
      for (let index = 0; index < values.length; index++)
        bindValue(binding, index + 1, values[index]);
      if (values.length < parameterCount || namedValues.length > 0)
        this.#bindNamed(binding, values.length, namedValues);
    } catch (error) {
      exports.sqlite3_clear_bindings(pointer);
      if (error instanceof RangeError) throw argumentsInvalid(error.message);
      throw error;
    } finally {
      heap.arenaTop = arenaMark; // SQLite has copied what was there.
    }
  }

  #bindNamed(binding: Binding, boundCount: number, namedValues: readonly NamedArgument[]): void {
    const { exports, heap } = binding.runtime;
    const indexes = new Map<string, number>();
    for (let index = 1; index <= binding.parameters.count; index++) {
      const name = heap.readCString(exports.sqlite3_bind_parameter_name(binding.statement, index));
      indexes.set(name ?? `?${index}`, index);
    }
    const missing = new Set(
      [...indexes].filter(([, index]) => index > boundCount).map(([name]) => name),
    );
    for (const { name, value } of namedValues) {
      const found = [name, ...PREFIXES.map((prefix) => prefix + name)].find((each) =>
        indexes.has(each),
      );
      if (found === undefined) throw argumentsInvalid(`there is no parameter "${name}"`);
      missing.delete(found);
      bindValue(binding, indexes.get(found)!, value);
    }
    const [first] = missing;
    if (first !== undefined) throw argumentsInvalid(`there is no value for parameter "${first}"`);
  }

  /** E2. */
  #requireAllowed(isReadOnly: boolean): void {
    if (!this.#isReadOnlyTransaction) return;
    if (this.isAutocommit) this.#isReadOnlyTransaction = false;
    else if (!isReadOnly)
      throw new SqliteError(
        "Cannot write: the transaction was begun with BEGIN TRANSACTION READONLY",
        "SQLITE_READONLY",
      );
  }
}

/** E2. */
function isBeginReadOnly(sql: string): boolean {
  return BEGIN_READONLY.some((words) => endOfWords(sql, words) !== -1);
}

function argumentsInvalid(fact: string): StoreError {
  return new StoreError("ARGS_INVALID", `Cannot bind the arguments of the statement: ${fact}`);
}
