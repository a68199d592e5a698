/**
 * The rows of a query, one `next` at a time.
 *
 *   open --last row, error, return()--> ended
 *
 * While it is open, its statement is locked and its connection counts it. One that is dropped without being ended keeps
 * its connection counting: what a connection allows never depends on garbage collection.
 */
import { SQLITE_DONE, SQLITE_ROW } from "./constants.ts";
import type { Statement } from "./statement.ts";
import type { StatementState } from "./statement-state.ts";

export class StatementIterator<Row = unknown> implements IterableIterator<Row> {
  readonly statement: Statement;
  readonly #state: StatementState;
  #open = true;
  #logged: boolean;

  constructor(statement: Statement, state: StatementState) {
    this.statement = statement;
    this.#state = state;
    this.#logged = state.connection.verbose === null;
    state.locked = true;
    state.handle.locked = true;
    state.connection.iterators++;
  }

  next(): IteratorResult<Row, undefined> {
    const state = this.#state;
    state.connection.requireNotBusy();
    if (!this.#open) return { value: undefined, done: true };
    try {
      state.connection.enter();
      if (!this.#logged) this.#log();
      const code = state.step();
      if (code === SQLITE_ROW) {
        const value = state.readRow() as Row;
        state.connection.leave();
        return { value, done: false };
      }
      this.#end();
      state.finish(code);
      return { value: undefined, done: true };
    } catch (error) {
      if (this.#open) this.#end();
      state.abandon();
      throw error;
    }
  }

  return(): IteratorResult<Row, undefined> {
    const state = this.#state;
    state.connection.requireNotBusy();
    if (this.#open) {
      this.#end();
      state.connection.enter();
      state.finish(SQLITE_DONE);
    }
    return { value: undefined, done: true };
  }

  [Symbol.iterator](): this {
    return this;
  }

  #log(): void {
    this.#logged = true;
    this.#state.log();
  }

  #end(): void {
    this.#open = false;
    this.#state.locked = false;
    this.#state.handle.locked = false;
    this.#state.connection.iterators--;
  }
}
