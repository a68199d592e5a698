/**
 * Run by disaster.test.ts, which kills it: random transactions, forks, checkpoints and garbage collection on a store that uploads.
 * Each line on its standard output is a DisasterEvent, as JSON, once what it says is done.
 *
 * The content of a branch is one number, made of those before: after the n-th transaction `counter.value` is n, and `entry` has
 * the rows 1 to n. So a count tells everything, and the hashes of some versions tell the same again.
 */
import { createHash } from "node:crypto";
import { writeSync } from "node:fs";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { Random } from "../src/testing/random.ts";

export interface DisasterOptions {
  readonly path: string;
  readonly seed: number;
  readonly options: StoreOptions;
}

export type DisasterEvent =
  | { readonly kind: "ready" }
  | {
      readonly kind: "commit";
      /** "database/branch". */
      readonly branch: string;
      readonly version: number;
      readonly count: number;
      /** The record of the log that has it. */
      readonly lsn: number;
      /** Of all pages; null when it was not asked for. */
      readonly hash: string | null;
    }
  /** Object storage has everything up to this record. */
  | { readonly kind: "uploaded"; readonly lsn: number };

export function hashOf(connection: StoreConnection): string {
  return createHash("sha256").update(connection.serialize()).digest("hex");
}

function say(event: DisasterEvent): void {
  writeSync(1, `${JSON.stringify(event)}\n`);
}

class Workload {
  private readonly store: Store;
  private readonly random: Random;
  private readonly connections = new Map<string, StoreConnection>();
  private readonly isRemote: boolean;
  private uploadedLsn = 0;

  constructor(store: Store, random: Random, isRemote: boolean) {
    this.store = store;
    this.random = random;
    this.isRemote = isRemote;
    for (const name of ["shop", "desk"]) {
      if (!store.databases().some((database) => database.name === name)) store.createDatabase(name);
      for (const { revision } of store.database(name).branches()) this.connect(revision);
    }
  }

  turn(): void {
    for (let index = 0; index < 4; index++) this.step();
    const { uploadedLsn } = this.store.uploadStatus!;
    if (uploadedLsn > this.uploadedLsn) say({ kind: "uploaded", lsn: uploadedLsn });
    this.uploadedLsn = uploadedLsn;
    setTimeout(() => this.turn(), this.random.integer(0, 3));
  }

  private step(): void {
    const choice = this.random.next();
    if (choice < 0.9) this.commit();
    else if (choice < 0.94) this.fork();
    else if (choice < 0.98) this.store.checkpoint();
    else this.store.gc();
  }

  private connect(branch: string): StoreConnection {
    let connection = this.connections.get(branch);
    if (connection === undefined) {
      connection = this.store.connect(branch);
      this.connections.set(branch, connection);
      connection.exec(
        `CREATE TABLE IF NOT EXISTS counter(value INTEGER);
         CREATE TABLE IF NOT EXISTS entry(id INTEGER PRIMARY KEY, payload BLOB);
         INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter)`,
      );
    }
    return connection;
  }

  private commit(): void {
    const { random } = this;
    const branch = random.pick([...this.connections.keys()]);
    const connection = this.connect(branch);
    const count = Number(connection.prepare("SELECT value FROM counter").pluck().get()) + 1;
    const size = random.chance(0.05) ? 100_000 : random.integer(0, 500);
    connection.transaction(() => {
      connection.prepare("UPDATE counter SET value = ?").run(count);
      connection.prepare("INSERT INTO entry VALUES (?, randomblob(?))").run(count, size);
    })();
    const [database = "", name = ""] = branch.split("/");
    const { version } = this.store.database(database).branch(name).head;
    const lsn = this.store.uploadStatus!.durableLsn;
    const hash = random.chance(0.3) ? hashOf(connection) : null;
    say({ kind: "commit", branch, version, count, lsn, hash });
    if (this.isRemote) say({ kind: "uploaded", lsn });
  }

  private fork(): void {
    if (this.connections.size >= 8) return;
    const from = this.random.pick([...this.connections.keys()]);
    const [database = ""] = from.split("/");
    const { revision } = this.store
      .database(database)
      .createBranch(`b${this.random.nextUint32()}`, { from });
    this.connect(revision);
  }
}

const [text] = process.argv.slice(2);
if (text !== undefined) {
  const { path, seed, options } = JSON.parse(text) as DisasterOptions;
  const workload = new Workload(
    openStore(path, options),
    new Random(seed),
    options.durability === "remote",
  );
  say({ kind: "ready" });
  workload.turn();
}
