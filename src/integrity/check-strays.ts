/** Rows of databases that do not exist: the next database with such a number would have them. */
import { TABLES_BY_DATABASE } from "../catalog/catalog.ts";
import { ByteWriter } from "../catalog/record-codec.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import type { CatalogContents } from "./check-catalog.ts";
import type { Findings } from "./report.ts";

const DATABASE_ID_MAX = 0xffff_ffff;

/** In one turn, so that names and rows are those of one moment. Two reads for each database and table. */
export function checkStrayRows(parts: StoreParts, findings: Findings): void {
  const { refs, arriving, changedRefs } = parts;
  reportStrays(parts, findings, [
    refs.databases,
    arriving,
    changedRefs.databases,
    changedRefs.leaving,
  ]);
}

/**
 * The same of a store that is not open. What the log has purged has rows until the next checkpoint; of what has a damaged row it cannot
 * be said whether it exists.
 */
export function checkStrayRowsOfClosed(
  parts: StoreParts,
  findings: Findings,
  { databases, damaged, isWhole }: CatalogContents,
): void {
  if (!isWhole) return;
  const stored = new Set(databases.map(({ id }) => id));
  const unknown = new Set(damaged.map(({ key }) => key.databaseId ?? -1));
  reportStrays(parts, findings, [stored, unknown, parts.arriving]);
}

function reportStrays(
  parts: StoreParts,
  findings: Findings,
  known: readonly { has(id: number): boolean }[],
): void {
  const strays = new Set<number>();
  for (const table of TABLES_BY_DATABASE)
    for (const id of databasesIn(parts, table))
      if (!known.some((ids) => ids.has(id))) strays.add(id);
  for (const id of strays)
    findings.add("CORRUPT_CATALOG", `The catalog has rows of database ${id}, which does not exist`);
}

/** Those that a table has rows of. */
function* databasesIn({ catalog }: StoreParts, table: number): Generator<number, void, void> {
  const end = Uint8Array.of(table + 1);
  for (let next = 0; next <= DATABASE_ID_MAX;) {
    const start = new ByteWriter(5).u8(table).u32(next).bytes;
    let found: number | null = null;
    for (const { key } of catalog.store.range({ start, end, limit: 1 }))
      found = new DataView(key.buffer, key.byteOffset, key.length).getUint32(1);
    if (found === null) return;
    yield found;
    next = found + 1;
  }
}
