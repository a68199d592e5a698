/**
 * A database of a server that is killed, as its clients know it: accounts whose sum never changes, a counter per client, and a journal of
 * transfers.
 *
 * K1. A transfer is whole: two balances, a line of the journal, the counter of the client that made it. Each statement, and each
 *     transaction, sees the sum that there was at first, and balances and counters that are those of the journal.
 * K2. Whoever asks after an answer sees what that answer acknowledged or showed: counters never go back, through kills too.
 * K3. A counter is no higher than what its client has asked for.
 * K4. A version, once read, has the same content for ever; so has a branch that nobody writes to. The head's version never goes back.
 */
import type { InStatement, Row } from "@libsql/client";
import { expect } from "vitest";

const ACCOUNTS = 16;
const BALANCE = 1000;
export const TOTAL: number = ACCOUNTS * BALANCE;

export interface Transfer {
  readonly client: number;
  /** What the counter of the client is with it. */
  readonly n: number;
  readonly source: number;
  readonly target: number;
  readonly amount: number;
}

/** What was acknowledged or seen by the time that a question was asked: an answer to it shows as much at least. */
export interface Floors {
  readonly counters: ReadonlyMap<number, number>;
  readonly version: number;
}

export class Bank {
  readonly name: string;
  /** K3, by client. */
  readonly #asked: Map<number, number> = new Map();
  /** K2, by client. */
  readonly #floors: Map<number, number> = new Map();
  #version = 0;
  /** K4: what versions hold, by revision. */
  readonly contents: Map<string, string> = new Map();
  /** K4: hashes of their files. */
  readonly files: Map<string, string> = new Map();
  /** Branches that may have been made. */
  readonly branches: Map<string, { readonly from: string; isSure: boolean }> = new Map();

  constructor(name: string, clients: readonly number[]) {
    this.name = name;
    for (const client of clients) {
      this.#asked.set(client, 0);
      this.#floors.set(client, 0);
    }
  }

  /** Before anybody asks. */
  schema(): InStatement[] {
    return [
      "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)",
      "CREATE TABLE counter(client INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
      `CREATE TABLE transfer(client INTEGER, n INTEGER, source INTEGER, target INTEGER, amount INTEGER,
         PRIMARY KEY (client, n)) WITHOUT ROWID`,
      "CREATE VIEW whole_transfer AS SELECT * FROM transfer",
      `CREATE TRIGGER whole INSTEAD OF INSERT ON whole_transfer BEGIN
         UPDATE account SET balance = balance - NEW.amount WHERE id = NEW.source;
         UPDATE counter SET n = n + 1 WHERE client = NEW.client AND n = NEW.n - 1;
         INSERT INTO transfer VALUES (NEW.client, NEW.n, NEW.source, NEW.target, NEW.amount);
         UPDATE account SET balance = balance + NEW.amount WHERE id = NEW.target;
       END`,
      `WITH RECURSIVE i(id) AS (VALUES (0) UNION ALL SELECT id + 1 FROM i LIMIT ${ACCOUNTS})
       INSERT INTO account SELECT id, ${BALANCE} FROM i`,
      ...[...this.#asked.keys()].map((client) => `INSERT INTO counter VALUES (${client}, 0)`),
    ];
  }

  asks(client: number, n: number): void {
    this.#asked.set(client, n);
  }

  sees(client: number, n: number): void {
    this.#floors.set(client, Math.max(n, this.#floors.get(client) ?? 0));
  }

  floors(): Floors {
    return { counters: new Map(this.#floors), version: this.#version };
  }

  /** K2, K3, of `SELECT client, n FROM counter`. */
  checkCounters(rows: readonly Row[], floors: Floors): void {
    expect(rows.length, "counters of this database").toBe(this.#asked.size);
    for (const row of rows) {
      const [client, n] = [Number(row["client"]), Number(row["n"])];
      const asked = this.#asked.get(client) ?? -1;
      const floor = floors.counters.get(client) ?? Infinity;
      if (n < floor || n > asked)
        expect.fail(`the counter of client ${client} is ${n}, not from ${floor} to ${asked}`);
      this.sees(client, n);
    }
  }

  /** K2, K4. */
  checkVersion(version: number, floors: Floors): void {
    expect(version).toBeGreaterThanOrEqual(floors.version);
    this.#version = Math.max(this.#version, version);
  }

  /** K4. `of`: contents, or files. */
  checkContent(of: Map<string, string>, revision: string, content: string): void {
    const known = of.get(revision);
    if (known === undefined) of.set(revision, content);
    else if (content !== known) expect.fail(`${revision} was ${known} and is ${content}`);
  }
}

/** Its balance may be below zero. */
export function transferOf(
  { client, n }: { readonly client: number; readonly n: number },
  integer: (min: number, max: number) => number,
): Transfer {
  const source = integer(0, ACCOUNTS - 1);
  const target = (source + integer(1, ACCOUNTS - 1)) % ACCOUNTS;
  return { client, n, source, target, amount: integer(1, 100) };
}

/** One by one. */
export function statementsOf({ client, n, source, target, amount }: Transfer): string[] {
  return [
    `UPDATE account SET balance = balance - ${amount} WHERE id = ${source}`,
    `UPDATE counter SET n = n + 1 WHERE client = ${client} AND n = ${n - 1}`,
    `INSERT INTO transfer VALUES (${client}, ${n}, ${source}, ${target}, ${amount})`,
    `UPDATE account SET balance = balance + ${amount} WHERE id = ${target}`,
  ];
}

/** In one statement. */
export function statementOf({ client, n, source, target, amount }: Transfer): InStatement {
  return {
    sql: "INSERT INTO whole_transfer VALUES (?, ?, ?, ?, ?)",
    args: [client, n, source, target, amount],
  };
}

/** K1: one row, { sum, accounts, lines } of which the last two count what is wrong. */
export const AUDIT: string = `
  SELECT (SELECT sum(balance) FROM account) AS sum,
    (SELECT count(*) FROM account WHERE balance != ${BALANCE}
       + (SELECT coalesce(sum(amount), 0) FROM transfer WHERE target = id)
       - (SELECT coalesce(sum(amount), 0) FROM transfer WHERE source = id)) AS accounts,
    (SELECT count(*) FROM counter AS c WHERE (n, n) IS NOT
       (SELECT count(*), coalesce(max(n), 0) FROM transfer WHERE client = c.client)) AS lines`;

export const AUDITED: object = { sum: TOTAL, accounts: 0, lines: 0 };

export const CONTENT: readonly string[] = [
  "SELECT id, balance FROM account ORDER BY id",
  "SELECT client, n FROM counter ORDER BY client",
  "SELECT count(*), sum(amount) FROM transfer",
];
