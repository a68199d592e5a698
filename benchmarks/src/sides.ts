/** The two sides, behind the part of better-sqlite3's interface that both have. */
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type BetterSqlite3 from "better-sqlite3";
import { openStore, type Store } from "../../src/store/store.ts";
import { isNewNode } from "./settings.ts";
import type { Durability } from "../../src/transaction/commit-pipeline.ts";

export interface Sql {
  readonly name: string;
  prepare(source: string): SqlStatement;
  exec(source: string): unknown;
  close(): unknown;
}

export interface SqlStatement {
  run(...values: unknown[]): unknown;
  get(...values: unknown[]): unknown;
  all(...values: unknown[]): unknown[];
}

/** Where a run keeps its files. */
export class Workspace {
  /** The project's root. */
  readonly root: string;
  /** Emptied at the end of the run. */
  readonly directory: string;
  /** Kept between runs. */
  readonly cache: string;
  #count = 0;

  constructor(root: string) {
    this.root = root;
    this.cache = path.join(root, "benchmarks/.cache");
    fs.mkdirSync(path.join(root, "benchmarks/.work"), { recursive: true });
    fs.mkdirSync(this.cache, { recursive: true });
    this.directory = fs.mkdtempSync(path.join(root, "benchmarks/.work/run-"));
  }

  path(name: string): string {
    return path.join(this.directory, `${++this.#count}-${name}`);
  }

  dispose(): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The better-sqlite3 that belongs to this Node: 12 up to Node 20, 13 from Node 22 on. */
export function loadBetterSqlite3(root: string): { open: typeof BetterSqlite3; version: string } {
  const directory = isNewNode() ? "benchmarks/node-22" : "benchmarks";
  const require = createRequire(path.join(root, directory, "package.json"));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const open = require("better-sqlite3") as typeof BetterSqlite3;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const { version } = require("better-sqlite3/package.json") as { version: string };
  return { open, version };
}

const SYNCHRONOUS: Record<Durability, string> = { full: "FULL", normal: "NORMAL", off: "OFF" };

export class Sides {
  readonly workspace: Workspace;
  readonly version: string;
  readonly #open: typeof BetterSqlite3;

  constructor(workspace: Workspace) {
    this.workspace = workspace;
    const { open, version } = loadBetterSqlite3(workspace.root);
    this.#open = open;
    this.version = version;
  }

  sqlite(
    durability: Durability = "full",
    file: string = this.workspace.path("plain.db"),
  ): BetterSqlite3.Database {
    const database = new this.#open(file);
    database.pragma("page_size = 4096");
    database.pragma("journal_mode = WAL");
    database.pragma(`synchronous = ${SYNCHRONOUS[durability]}`);
    database.pragma("cache_size = -16000");
    return database;
  }

  store(durability: Durability = "full"): Store {
    return openStore(this.workspace.path("store"), { durability });
  }
}

/** One transaction around `body`. */
export function inTransaction(sql: Sql, body: () => void): void {
  sql.exec("BEGIN");
  body();
  sql.exec("COMMIT");
}
