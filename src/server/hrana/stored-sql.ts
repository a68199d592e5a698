/**
 * SQL texts that a client has stored under numbers: of one stream over HTTP, of the whole connection over WebSocket.
 *
 * D1. Those of one are bounded in number and length, those of all clients of a server together in length.
 */
import { StoreError } from "../../errors.ts";
import type { HranaStatement, SqlReference, StreamRequest } from "./protocol.ts";

const TEXTS_MAX = 200;
const LENGTH_MAX = 2 * 1024 * 1024;
const ALL_LENGTH_MAX = 64 * 1024 * 1024;

/** Of all clients of a server. */
export interface StoredLength {
  characters: number;
}

export class StoredSql {
  readonly #texts: Map<number, string> = new Map();
  readonly #all: StoredLength;
  #length = 0;

  constructor(all: StoredLength = { characters: 0 }) {
    this.#all = all;
  }

  get size(): number {
    return this.#texts.size;
  }

  store(sqlId: number, sql: string): void {
    if (this.#texts.has(sqlId))
      throw new StoreError("SQL_STORE_FULL", `Cannot store the SQL text: ${sqlId} has one already`);
    if (this.#texts.size >= TEXTS_MAX || this.#length + sql.length > LENGTH_MAX)
      throw new StoreError(
        "SQL_STORE_FULL",
        `Cannot store the SQL text: at most ${TEXTS_MAX} texts with ${LENGTH_MAX} characters are kept`,
      );
    if (this.#all.characters + sql.length > ALL_LENGTH_MAX)
      throw new StoreError(
        "SQL_STORE_FULL",
        `Cannot store the SQL text: those of all clients have ${ALL_LENGTH_MAX} characters at most`,
        { retryable: true },
      );
    this.#texts.set(sqlId, sql);
    this.#grow(sql.length);
  }

  /** When nobody can use them any more. */
  clear(): void {
    this.#texts.clear();
    this.#grow(-this.#length);
  }

  /** One that is not there is no error. */
  close(sqlId: number): void {
    this.#grow(-(this.#texts.get(sqlId)?.length ?? 0));
    this.#texts.delete(sqlId);
  }

  #grow(characters: number): void {
    this.#length += characters;
    this.#all.characters += characters;
  }

  resolve(reference: SqlReference): string {
    if ("sql" in reference) return reference.sql;
    const sql = this.#texts.get(reference.sqlId);
    if (sql !== undefined) return sql;
    throw new StoreError(
      "SQL_NOT_STORED",
      `Cannot find the SQL text: none is stored under ${reference.sqlId}`,
    );
  }

  /** The request with the texts in place of their numbers, so that later changes do not matter. */
  resolveAll(request: StreamRequest): StreamRequest {
    switch (request.type) {
      case "execute":
        return { ...request, statement: this.#resolved(request.statement) };
      case "batch": {
        const steps = request.steps.map(({ condition, statement }) => ({
          condition,
          statement: this.#resolved(statement),
        }));
        return { ...request, steps };
      }
      case "sequence":
      case "describe":
        return { ...request, sql: { sql: this.resolve(request.sql) } };
      case "store_sql":
      case "close_sql":
      case "get_autocommit":
      case "close":
        return request;
    }
  }

  #resolved(statement: HranaStatement): HranaStatement {
    if ("sql" in statement.sql) return statement;
    return { ...statement, sql: { sql: this.resolve(statement.sql) } };
  }
}
