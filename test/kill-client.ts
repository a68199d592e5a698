/**
 * One of the clients of a server that is killed, with the real package @libsql/client and with fetch: it writes, reads, and
 * compares each answer with what kill-bank.ts says, over the restarts too.
 *
 *   sure --write--> asked --acknowledged, or refused--> sure
 *                   asked --the connection is lost before COMMIT was asked for--> sure: it has not happened
 *                   asked --the connection is lost--> unsure --the next answer--> sure
 */
import type { Client, Transaction } from "@libsql/client";
import { createHash } from "node:crypto";
import { expect } from "vitest";
import type { Random } from "../src/testing/random.ts";
import {
  AUDIT,
  AUDITED,
  type Bank,
  CONTENT,
  statementOf,
  statementsOf,
  TOTAL,
  transferOf,
} from "./kill-bank.ts";

/** What clients are told of the server that they ask. */
export interface ServerLife {
  readonly url: string;
  /** How many have been started. */
  readonly starts: number;
  /** It has been killed, and the next one does not answer yet. */
  readonly isDown: boolean;
  /** Resolves when one answers; to false when there will be none any more. */
  isUp(): Promise<boolean>;
  /** A write was acknowledged. */
  wrote(): void;
}

export interface KillClientOptions {
  readonly client: Client;
  readonly bank: Bank;
  readonly id: number;
  readonly random: Random;
  readonly life: ServerLife;
}

interface Held {
  readonly transaction: Transaction;
  readonly n: number;
  readonly starts: number;
}

/** Of the client over WebSocket; of the system; of fetch. */
const LOSSES: ReadonlySet<string> = new Set([
  "HRANA_WEBSOCKET_ERROR",
  "HRANA_CLOSED_ERROR",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "UND_ERR_SOCKET",
]);

export class KillClient {
  readonly #options: KillClientOptions;
  /** Its counter. */
  #n = 0;
  /** Whether the counter may be one higher. */
  #isUnsure = false;
  /** A transaction that stays open over the kill. */
  #held: Held | null = null;
  /** How often each thing was done to its end. */
  readonly done: Map<string, number> = new Map();

  constructor(options: KillClientOptions) {
    this.#options = options;
  }

  /** Until there is no server any more. */
  async run(): Promise<void> {
    const { life } = this.#options;
    while (await life.isUp()) {
      const { starts } = life;
      try {
        await this.#step();
      } catch (error) {
        const isExpected = life.isDown || life.starts > starts;
        if (!isExpected || !isLoss(error, life.starts > starts)) throw error;
      }
    }
  }

  /** What concerns itself. */
  async checkOwn(): Promise<void> {
    await this.#resolve();
    await this.#readOwn();
  }

  /** All that can be checked of the database. */
  async checkBank(): Promise<void> {
    const { bank } = this.#options;
    await this.#audit();
    await this.#observe();
    await this.#readSnapshot();
    for (const revision of bank.contents.keys()) await this.#readRevision(revision);
    for (const revision of bank.files.keys()) await this.#readFile(revision);
    for (const name of bank.branches.keys()) await this.#readBranch(name);
  }

  async #step(): Promise<void> {
    const { random, bank } = this.#options;
    if (this.#isUnsure) return await this.#resolve();
    if (this.#held !== null && random.chance(0.1)) return await this.#useHeld(this.#held);
    const choice = random.next();
    if (choice < 0.5) await this.#write();
    else if (choice < 0.7) await this.#readOwn();
    else if (choice < 0.8) await this.#observe();
    else if (choice < 0.86) await this.#readSnapshot();
    else if (choice < 0.88) await this.#audit();
    else if (choice < 0.92) await this.#readHead();
    else if (choice < 0.97 && bank.contents.size > 0)
      await this.#readRevision(random.pick([...bank.contents.keys()]));
    else if (choice < 0.98 && bank.contents.size > 0) await this.#fork();
    else if (choice < 0.99 && bank.branches.size > 0)
      await this.#readBranch(random.pick([...bank.branches.keys()]));
    else if (this.#held === null) await this.#hold();
  }

  #did(what: string): void {
    this.done.set(what, 1 + (this.done.get(what) ?? 0));
  }

  /** What an unknown outcome was. */
  async #resolve(): Promise<void> {
    const { bank, id } = this.#options;
    const floors = bank.floors();
    const n = await this.#counter();
    expect([this.#n, this.#n + (this.#isUnsure ? 1 : 0)], `client ${id}`).toContain(n);
    expect(n).toBeGreaterThanOrEqual(floors.counters.get(id)!);
    this.#isUnsure = false;
    this.#n = n;
    bank.sees(id, n);
    this.#did("resolve");
  }

  async #counter(on: Client | Transaction = this.#options.client): Promise<number> {
    const { rows } = await on.execute({
      sql: "SELECT n FROM counter WHERE client = ?",
      args: [this.#options.id],
    });
    return Number(rows[0]?.["n"]);
  }

  async #write(): Promise<void> {
    const { bank, id, random, life } = this.#options;
    const n = this.#n + 1;
    const way = random.pick(["statement", "batch", "interactive", "concurrent"] as const);
    bank.asks(id, n);
    this.#isUnsure = way !== "interactive";
    const hasHappened = await this.#transfer(n, way);
    this.#isUnsure = false;
    this.#did(hasHappened ? way : `${way}, refused`);
    if (!hasHappened) return;
    this.#n = n;
    bank.sees(id, n);
    life.wrote();
  }

  async #transfer(
    n: number,
    way: "statement" | "batch" | "interactive" | "concurrent",
  ): Promise<boolean> {
    const { client, id, random } = this.#options;
    const transfer = transferOf({ client: id, n }, (min, max) => random.integer(min, max));
    switch (way) {
      case "statement":
        await client.execute(statementOf(transfer));
        return true;
      case "batch": {
        const results = await client.batch(statementsOf(transfer), "write");
        expect(results.map(({ rowsAffected }) => rowsAffected)).toEqual([1, 1, 1, 1]);
        return true;
      }
      case "interactive":
        await this.#transferInSteps(statementsOf(transfer));
        return true;
      case "concurrent":
        try {
          const statements = ["BEGIN CONCURRENT", ...statementsOf(transfer), "COMMIT"];
          await client.executeMultiple(statements.join(";"));
          return true;
        } catch (error) {
          if (codeOf(error) !== "SQLITE_BUSY") throw error;
          return false;
        }
    }
  }

  /** Reads within see what is written within. Nothing has happened before COMMIT is asked for. */
  async #transferInSteps(statements: readonly string[]): Promise<void> {
    const { client } = this.#options;
    const transaction = await client.transaction("write");
    try {
      expect(await this.#counter(transaction)).toBe(this.#n);
      for (const sql of statements) await transaction.execute(sql);
      const { rows } = await transaction.execute("SELECT sum(balance) AS sum FROM account");
      expect(rows[0]?.["sum"]).toBe(TOTAL);
      expect(await this.#counter(transaction)).toBe(this.#n + 1);
      this.#isUnsure = true;
      await transaction.commit();
    } finally {
      transaction.close();
    }
  }

  /** K2: its own writes, exactly. */
  async #readOwn(): Promise<void> {
    const { client, id } = this.#options;
    const [counters, lines] = await client.batch(
      [
        { sql: "SELECT n FROM counter WHERE client = ?", args: [id] },
        { sql: "SELECT count(*) AS count FROM transfer WHERE client = ?", args: [id] },
      ],
      "read",
    );
    expect([counters!.rows[0]?.["n"], lines!.rows[0]?.["count"]], `client ${id}`).toEqual([
      this.#n,
      this.#n,
    ]);
    this.#did("readOwn");
  }

  async #observe(): Promise<void> {
    const { bank, client } = this.#options;
    const floors = bank.floors();
    const { rows } = await client.execute("SELECT client, n FROM counter");
    bank.checkCounters(rows, floors);
    this.#did("observe");
  }

  async #audit(): Promise<void> {
    const { rows } = await this.#options.client.execute(AUDIT);
    expect({ ...rows[0] }).toEqual(AUDITED);
    this.#did("audit");
  }

  /** K1: several statements of a transaction see one state. */
  async #readSnapshot(): Promise<void> {
    const { bank, client } = this.#options;
    const floors = bank.floors();
    const transaction = await client.transaction("read");
    try {
      const half = async (where: string): Promise<number> =>
        Number(
          (await transaction.execute(`SELECT sum(balance) FROM account ${where}`)).rows[0]![0],
        );
      const first = await half("WHERE id < 8");
      const before = await transaction.execute("SELECT client, n FROM counter");
      bank.checkCounters(before.rows, floors);
      const second = await half("WHERE id >= 8");
      const after = await transaction.execute("SELECT client, n FROM counter");
      expect(first + second).toBe(TOTAL);
      expect(after.rows).toEqual(before.rows);
      const { rows } = await transaction.execute("SELECT count(*) FROM transfer");
      const sum = before.rows.reduce((total, row) => total + Number(row["n"]), 0);
      expect(rows[0]?.[0]).toBe(sum);
      await transaction.commit();
    } finally {
      transaction.close();
    }
    this.#did("readSnapshot");
  }

  /** Begins what is not ended before the server is killed. */
  async #hold(): Promise<void> {
    const { client, life } = this.#options;
    const { starts } = life;
    const transaction = await client.transaction("deferred");
    const n = await this.#counter(transaction);
    expect(n).toBe(this.#n);
    this.#held = { transaction, n, starts };
  }

  /** It sees what it saw. When its server is gone it is gone too, whatever it is asked. */
  async #useHeld({ transaction, n, starts }: Held): Promise<void> {
    const { life, id } = this.#options;
    if (life.starts === starts) {
      expect(await this.#counter(transaction), "a snapshot stays").toBe(n);
      this.#did("readHeld");
      return;
    }
    this.#held = null;
    const change = transaction.execute(`UPDATE counter SET n = n + 1000 WHERE client = ${id}`);
    const failure = await change.then(
      () => null,
      (error: unknown) => error,
    );
    if (!isLoss(failure, true))
      expect.fail(`a transaction of a server that is gone: ${String(failure)}`);
    this.#did("loseHeld");
  }

  async #readHead(): Promise<void> {
    const { bank } = this.#options;
    const floors = bank.floors();
    const { body } = await this.#ask(`api/v1/databases/${bank.name}/branches/main`);
    const { version } = (JSON.parse(body) as { head: { version: number } }).head;
    bank.checkVersion(version, floors);
    await this.#readRevision(`${bank.name}@${version}`);
  }

  /** K4: its rows, and sometimes the bytes of its file. */
  async #readRevision(revision: string): Promise<void> {
    const { bank, random } = this.#options;
    bank.checkContent(bank.contents, revision, await this.#content(revision));
    this.#did("readRevision");
    if (random.chance(0.1)) await this.#readFile(revision);
  }

  async #readFile(revision: string): Promise<void> {
    const { bank } = this.#options;
    const path = `api/v1/databases/${bank.name}/branches/main/file`;
    const { bytes } = await this.#ask(`${path}?revision=${revision.slice(bank.name.length)}`);
    const hash = createHash("sha256").update(bytes).digest("hex");
    bank.checkContent(bank.files, revision, hash);
    this.#did("readFile");
  }

  async #content(revision: string): Promise<string> {
    const requests = CONTENT.map((sql) => ({ type: "execute", stmt: { sql } }));
    const { body } = await this.#ask(`${revision}/v2/pipeline`, {
      requests: [...requests, { type: "close" }],
    });
    const { results } = JSON.parse(body) as { results: readonly object[] };
    expect(body, revision).not.toContain('"error"');
    return JSON.stringify(results);
  }

  async #fork(): Promise<void> {
    const { bank, id, random } = this.#options;
    const from = random.pick([...bank.contents.keys()]);
    const name = `fork-${id}-${bank.branches.size}`;
    const branch = { from, isSure: false };
    bank.branches.set(name, branch);
    const path = `api/v1/databases/${bank.name}/branches`;
    await this.#ask(path, { name, from }, 201);
    branch.isSure = true;
    this.#did("fork");
  }

  async #readBranch(name: string): Promise<void> {
    const { bank } = this.#options;
    const { from, isSure } = bank.branches.get(name)!;
    const revision = `${bank.name}/${name}`;
    if (!isSure) {
      const response = await fetch(`${this.#options.life.url}/${revision}/v2/pipeline`, {
        method: "POST",
        body: '{"requests":[]}',
      });
      await response.arrayBuffer();
      if (response.status === 404) return;
    }
    expect(await this.#content(revision), revision).toBe(bank.contents.get(from));
    this.#did("readBranch");
  }

  async #ask(
    path: string,
    body: object | null = null,
    status = 200,
  ): Promise<{ readonly bytes: Buffer; readonly body: string }> {
    const response = await fetch(`${this.#options.life.url}/${path}`, {
      ...(body === null ? {} : { method: "POST", body: JSON.stringify(body) }),
      headers: { "content-type": "application/json" },
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    if (response.status !== status)
      expect.fail(`${path}: ${response.status} ${bytes.toString().slice(0, 500)}`);
    return { bytes, body: bytes.toString() };
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** That the connection is gone; or, when another server has been started, what was open on it. */
function isLoss(error: unknown, hasRestarted: boolean): boolean {
  if (!(error instanceof Error)) return false;
  const code = codeOf(error);
  if (hasRestarted && code === "BATON_INVALID") return true;
  return LOSSES.has(code) || isLoss(error.cause, hasRestarted);
}
