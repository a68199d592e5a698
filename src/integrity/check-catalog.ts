/** Checks the catalog row by row, and gathers what the other checks start from. */
import { addBranch, addDatabase, emptyRefState, type RefState } from "../branch/refs.ts";
import { type RowKey, scanCatalog } from "../catalog/catalog-scan.ts";
import { CATALOG_FORMAT_VERSION } from "../catalog/catalog.ts";
import type { BranchRow, DatabaseRow, TagRow } from "../catalog/rows.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { idKey } from "../page/chunk-handle.ts";
import { nodeId, nodeName } from "../page/page-map-node.ts";
import { type CheckProgress, type Findings, nextTurn } from "./report.ts";
import type { RevisionIndex, ScannedRows } from "./revision-index.ts";

export interface CatalogContents extends ScannedRows {
  readonly databases: DatabaseRow[];
  readonly branches: BranchRow[];
  readonly tags: TagRow[];
  /** Ids of chunks, by key. */
  readonly chunks: Map<string, Uint8Array>;
  /** Rows of the page index. */
  pageRows: number;
  readonly damaged: { readonly key: RowKey; readonly error: StoreError }[];
  /** All rows have been met. */
  isWhole: boolean;
}

const ROWS_PER_TURN = 8192;

export async function scanRows(
  parts: StoreParts,
  findings: Findings,
  onProgress: (progress: CheckProgress) => void,
): Promise<CatalogContents> {
  const contents: CatalogContents = {
    state: null,
    databases: [],
    branches: [],
    tags: [],
    timelines: [],
    roots: [],
    historySegments: [],
    chunks: new Map(),
    pageRows: 0,
    damaged: [],
    isWhole: false,
  };
  try {
    for (const row of scanCatalog(parts.catalog.store)) {
      collect(parts, contents, findings, row);
      if (++findings.counts.catalogRows % ROWS_PER_TURN !== 0) continue;
      onProgress({ phase: "catalog", done: findings.counts.catalogRows, total: null });
      await nextTurn();
    }
    contents.isWhole = true;
  } catch (error) {
    findings.addDamage({ kind: "catalog" }, error); // The backend itself cannot go on (S1).
  }
  return contents;
}

function collect(
  parts: StoreParts,
  contents: CatalogContents,
  findings: Findings,
  row: ReturnType<typeof scanCatalog> extends Generator<infer Row> ? Row : never,
): void {
  switch (row.kind) {
    case "state":
      contents.state = row.state;
      if (row.state.formatVersion > CATALOG_FORMAT_VERSION)
        findings.add(
          "STORE_FORMAT",
          `Cannot read the catalog: its format version is ${row.state.formatVersion}, this bough reads up to ${CATALOG_FORMAT_VERSION}`,
        );
      return;
    case "database":
      contents.databases.push(row.row);
      return;
    case "branch":
      contents.branches.push(row.row);
      return;
    case "tag":
      contents.tags.push(row.row);
      return;
    case "timeline":
      contents.timelines.push(row.timeline);
      return;
    case "root":
      contents.roots.push({ ...row.place, row: row.row });
      return;
    case "history":
      contents.historySegments.push({ segment: row.segment, databaseId: row.databaseId });
      return;
    case "chunk":
      contents.chunks.set(idKey(row.id), Uint8Array.from(row.id));
      return;
    case "page":
      contents.pageRows++;
      return;
    case "node":
      if (idKey(nodeId(row.bytes, parts.cipher)) !== idKey(row.id))
        // As decodeNode says it, so that the walk from the roots adds the revisions to this problem.
        findings
          .add(
            "CORRUPT_NODE",
            `Cannot read page map node ${nodeName(row.id)}: its ${row.bytes.length} bytes have another hash`,
          )
          .subjects.push({ kind: "node", id: Uint8Array.from(row.id) });
      return;
    case "damaged":
      contents.damaged.push({ key: row.key, error: row.error });
      return;
    case "commit":
    case "outcome":
      return;
  }
}

/** Names as of the last checkpoint; rows that hang in the air (their database's row is damaged) are left out. */
export function refsOf(contents: CatalogContents): RefState {
  const refs = emptyRefState();
  for (const row of contents.databases) addDatabase(refs, row);
  for (const row of contents.branches) {
    const database = refs.databases.get(row.databaseId);
    if (database !== undefined) addBranch(database, row);
  }
  for (const { row } of contents.timelines)
    refs.databases.get(row.databaseId)?.timelines.set(row.id, row);
  for (const row of contents.tags) refs.databases.get(row.databaseId)?.tags.set(row.name, row);
  return refs;
}

/** Damaged rows, with what cannot be read without them. */
export function reportDamagedRows(
  contents: CatalogContents,
  index: RevisionIndex,
  findings: Findings,
): void {
  for (const { key, error } of contents.damaged)
    findings.addDamage({ kind: "row", key: key.bytes }, error, revisionsOf(key, index));
}

function revisionsOf(key: RowKey, index: RevisionIndex): string[] {
  const { databaseId, branchId, timeline, version, what } = key;
  if (databaseId === null) return what === "the store state" ? index.heads() : [];
  if (branchId !== null) return index.branch(databaseId, branchId);
  if (timeline !== null && version !== null)
    return [index.version(databaseId, timeline, String(version))];
  return index.heads(databaseId, timeline);
}
