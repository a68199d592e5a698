/** What a fixture store holds, as its expected.json says it: one hash for the content of each revision. */
import { createHash } from "node:crypto";
import { StoreError } from "../src/errors.ts";
import type { Store } from "../src/store/store.ts";

/** Fixed, public, for fixtures only. */
export const FIXTURE_KEY: string = "0123456789abcdef".repeat(4);

export interface FixtureRevision {
  readonly revision: string;
  readonly pageCount: number;
  /** SHA-256 over schema and rows. */
  readonly hash: string;
}

export interface FixtureContent {
  readonly databases: readonly {
    readonly name: string;
    readonly pageSize: number;
    readonly version: number;
    readonly branches: readonly object[];
    readonly tags: readonly object[];
  }[];
  readonly revisions: readonly FixtureRevision[];
}

/** Names, heads and the content of every version on every branch, of an open store. */
export function contentOf(store: Store): FixtureContent {
  const revisions: FixtureRevision[] = [];
  for (const database of store.databases()) {
    const { name, version } = database;
    const names = database.tags().map((tag) => `${name}@${tag.name}`);
    for (const branch of database.branches()) {
      names.push(branch.revision);
      for (let at = 1; at <= version; at++)
        if (hasVersion(store, `${branch.revision}@${at}`)) names.push(`${branch.revision}@${at}`);
    }
    for (const revision of names) revisions.push(describe(store, revision));
  }
  const databases = store.databases().map((database) => ({
    name: database.name,
    pageSize: database.pageSize,
    version: database.version,
    branches: database.branches().map((branch) => branch.toJSON()),
    tags: database.tags(),
  }));
  // As the file has it: dates are strings.
  return JSON.parse(JSON.stringify({ databases, revisions })) as FixtureContent;
}

/** Versions count over all branches: each has some of them. */
function hasVersion(store: Store, revision: string): boolean {
  try {
    store.connect(revision).close();
    return true;
  } catch (error) {
    if (error instanceof StoreError && error.code === "VERSION_NOT_FOUND") return false;
    throw error;
  }
}

function describe(store: Store, revision: string): FixtureRevision {
  using connection = store.connect(revision);
  const hash = createHash("sha256");
  const schema = connection
    .prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
    .raw()
    .all() as [string, string, string | null][];
  hash.update(JSON.stringify(schema));
  for (const [type, name] of schema) {
    if (type !== "table") continue;
    const columns = connection
      .prepare("SELECT name FROM pragma_table_info(?)")
      .pluck()
      .all(name)
      .map((column) => `quote("${String(column)}")`);
    const rows = connection
      .prepare(`SELECT ${columns.join(", ")} FROM "${name}"`)
      .raw()
      .iterate();
    for (const row of rows) hash.update(JSON.stringify(row));
  }
  const pageCount = Number(connection.pragma("page_count", { simple: true }));
  return { revision, pageCount, hash: hash.digest("hex") };
}
