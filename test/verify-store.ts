/** Compares an open store with the model: names, heads, and the rows of every revision. */
import { expect } from "vitest";
import type { Store } from "../src/store/store.ts";
import type { Random } from "../src/testing/random.ts";
import type { ModelDatabase, Rows, StoreModel } from "./store-model.ts";

/** What `StoreModel.outline` says, of a real store. */
export function outlineOf(store: Store): string {
  const outlines = store.databases().map((database) => ({
    database: database.name,
    branches: database
      .branches()
      .map((branch): [string, number, boolean] => [
        branch.name,
        branch.head.version,
        branch.isProtected,
      ])
      .sort((left, right) => (left[0] < right[0] ? -1 : 1)),
    tags: database.tags().map((tag) => [tag.name, tag.version]),
  }));
  return JSON.stringify(outlines);
}

export interface Reader {
  prepare(sql: string): { raw(): { all(): unknown[] }; pluck(): { get(): unknown } };
}

/** The rows of `item`; null when there is no such table. */
export function readRows(connection: Reader): Rows | null {
  const hasTable = connection
    .prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'item'")
    .pluck()
    .get();
  if (hasTable !== 1) return null;
  const rows = connection.prepare("SELECT id, value || '/' || note FROM item ORDER BY id");
  return new Map(rows.raw().all() as [number, string][]);
}

export function integrityOf(connection: Reader): unknown {
  return connection.prepare("PRAGMA integrity_check").pluck().get();
}

export interface VerifyOptions {
  /** `integrity_check` on this share of the old revisions; heads always. */
  readonly integrityShare?: number;
  /** Other revisions per database, at random versions. */
  readonly randomRevisions?: number;
}

/** Every revision of the store against the model that has the same outline. */
export function verifyContents(
  store: Store,
  model: StoreModel,
  random: Random,
  options: VerifyOptions = {},
): void {
  for (const database of model.living()) verifyDatabase(store, database, random, options);
}

function verifyDatabase(
  store: Store,
  database: ModelDatabase,
  random: Random,
  { integrityShare = 0.1, randomRevisions = 4 }: VerifyOptions,
): void {
  const { pageSize } = store.database(database.name);
  const check = (revision: string, expected: Rows | null, withIntegrity: boolean): void => {
    const connection = store.connect(revision);
    expectRows(readRows(connection), expected, revision);
    if (withIntegrity) {
      expect(integrityOf(connection), revision).toBe("ok");
      const pageCount = Number(connection.pragma("page_count", { simple: true }));
      // Every page, also the free ones that nothing refers to. (SQLite makes a first page to serialize none.)
      if (pageCount > 0) expect(connection.serialize().length, revision).toBe(pageCount * pageSize);
    }
    connection.close();
  };
  for (const branch of database.living())
    check(`${database.name}/${branch.name}`, database.rows(branch), true);
  for (const { branch, commit } of database.revisions()) {
    const revision = `${database.name}/${branch.name}@${commit.version}`;
    check(revision, commit.rows, random.chance(integrityShare));
  }
  for (const [name, point] of database.tags)
    check(`${database.name}@${name}`, database.commitAt(point).rows, true);
  for (let count = 0; count < randomRevisions && database.version > 0; count++) {
    const branch = random.pick(database.living());
    const version = random.integer(1, database.version);
    const revision = `${database.name}/${branch.name}@${version}`;
    const point = database.at(branch, version);
    if (point !== null) check(revision, database.commitAt(point).rows, false);
    else {
      const missing = expect.objectContaining({ code: "VERSION_NOT_FOUND" });
      expect(() => store.connect(revision), revision).toThrow(missing);
    }
  }
}

/** Like toEqual, without its cost when all is well. */
export function expectRows(actual: Rows | null, expected: Rows | null, what: string): void {
  if (isSame(actual, expected)) return;
  const show = (rows: Rows | null): unknown =>
    rows && [...rows].map(([id, value]) => `${id}=${value.slice(0, 24)}(${value.length})`);
  expect(show(actual), `rows of ${what}`).toEqual(show(expected));
  throw new Error(`Rows of ${what} differ past their first characters`);
}

function isSame(actual: Rows | null, expected: Rows | null): boolean {
  if (actual === null || expected === null) return actual === expected;
  if (actual.size !== expected.size) return false;
  for (const [id, value] of expected) if (actual.get(id) !== value) return false;
  return true;
}
