/** The last part of a deep check: SQLite itself on the head of every branch, and on every tag. */
import { type CheckOptions, type Findings, nextTurn } from "../integrity/report.ts";
import { SqliteError } from "../sqlite/sqlite-error.ts";
import type { Store } from "./abstract-store.ts";

/** Heads and tags that name the same commit are checked once. */
export async function checkHeads(
  store: Store,
  findings: Findings,
  { onProgress }: CheckOptions,
): Promise<void> {
  const commits = new Map<string, string[]>();
  for (const database of store.databases()) {
    for (const branch of database.branches()) {
      const revision = branch.name === "main" ? database.name : branch.revision;
      const { version } = branch.head;
      if (version === 0) continue;
      const key = `${database.name}@${version}`;
      commits.set(key, [...(commits.get(key) ?? []), revision]);
    }
    for (const { name, version } of database.tags()) {
      if (version === 0) continue;
      const key = `${database.name}@${version}`;
      commits.set(key, [...(commits.get(key) ?? []), `${database.name}@${name}`]);
    }
  }
  let done = 0;
  for (const revisions of commits.values()) {
    onProgress?.({ phase: "sql", done: done++, total: commits.size });
    findings.counts.heads += revisions.length;
    checkHead(store, findings, revisions);
    await nextTurn();
  }
}

function checkHead(store: Store, findings: Findings, revisions: readonly string[]): void {
  const [revision = ""] = revisions;
  try {
    const connection = store.connect(revision, { readonly: true });
    try {
      for (const { integrity_check: line } of connection.pragma("integrity_check") as {
        integrity_check: string;
      }[]) {
        if (line !== "ok")
          findings.add("INTEGRITY", `SQLite's check of "${revision}": ${line}`, revisions);
      }
      for (const [tables, count] of foreignKeyViolations(
        connection.pragma("foreign_key_check") as { table: string; parent: string }[],
      ))
        findings.add(
          "FOREIGN_KEY",
          `Foreign keys of "${revision}": ${count} ${count === 1 ? "row" : "rows"} of ${tables} that does not have them`,
          revisions,
        );
    } finally {
      connection.close();
    }
  } catch (error) {
    if (error instanceof SqliteError)
      findings.add("INTEGRITY", `SQLite's check of "${revision}": ${error.message}`, revisions);
    else findings.addError(error, revisions);
  }
}

/** Rows without parent, by the two tables. */
function foreignKeyViolations(
  rows: readonly { table: string; parent: string }[],
): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { table, parent } of rows) {
    const tables = `table "${table}" refer to rows of "${parent}"`;
    counts.set(tables, (counts.get(tables) ?? 0) + 1);
  }
  return counts;
}
