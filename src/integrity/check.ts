/**
 * Checks a store from its catalog down to its chunks: what is damaged, and which revisions it touches. Reads everything,
 * changes nothing, and goes on after each problem as far as what it needs is whole.
 *
 *   catalog rows -> log records -> page maps -> chunks -> page index -> packs -> history
 */
import type { RefState } from "../branch/refs.ts";
import type { ChunkPlace, StoredRoot } from "../catalog/catalog.ts";
import { loadCatalog } from "../checkpoint/recovery.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { idKey } from "../page/chunk-handle.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import { refsOf, reportDamagedRows, scanRows } from "./check-catalog.ts";
import { ChunkChecker, checkPacks } from "./check-chunks.ts";
import { checkHistorySegment } from "./check-history.ts";
import { checkLog, type LogContents } from "./check-log.ts";
import { PageMapChecker, type SlotChecker } from "./check-page-maps.ts";
import { type CheckOptions, type CheckProgress, type Findings, nextTurn } from "./report.ts";
import { checkStrayRows, checkStrayRowsOfClosed } from "./check-strays.ts";
import { range, RevisionIndex, type RootUse } from "./revision-index.ts";

const NODES_PER_TURN = 16;

/** What a repair needs to know beside the problems. */
export interface CheckedParts {
  /** Where chunks are, or were, that the log names and the catalog does not know whole, by id. */
  readonly places: ReadonlyMap<string, ChunkPlace>;
}

/** `isOpen`: the parts are those of an open store; otherwise nothing has been loaded into them. */
export async function checkParts(
  parts: StoreParts,
  findings: Findings,
  options: CheckOptions & { readonly isOpen: boolean },
): Promise<CheckedParts> {
  const onProgress = (progress: CheckProgress): void => options.onProgress?.(progress);
  const deep = options.deep ?? false;
  const contents = await scanRows(parts, findings, onProgress);
  const refs = options.isOpen ? parts.refs : refsOf(contents);
  const afterLsn = contents.state?.checkpointLsn ?? 0;
  const heads = (): string[] => new RevisionIndex(contents, refs).heads();
  onProgress({ phase: "log", done: 0, total: null });
  const log = checkLog({
    parts,
    findings,
    afterLsn,
    refs: options.isOpen ? null : refs,
    heads,
  });
  const index = new RevisionIndex(contents, refs, log.spans.values());
  reportDamagedRows(contents, index, findings);
  if (options.isOpen) checkStrayRows(parts, findings);
  else checkStrayRowsOfClosed(parts, findings, contents);
  const { catalog, chunks: store, handles, cipher } = parts;
  const locate = locator(parts, log);
  const chunks = new ChunkChecker({
    catalog,
    chunks: store,
    handles,
    cipher,
    locate,
    findings,
    deep,
  });
  await checkRoots({ parts, findings, index, chunks, onProgress, isOpen: options.isOpen });
  checkLoggedReferences({ parts, refs, index, chunks, log });
  const total = contents.chunks.size;
  await chunks.checkOthers(contents.chunks, (done) => onProgress({ phase: "chunks", done, total }));
  await chunks.checkPageIndex(contents.pageRows);
  checkPacks(parts.storage, parts.storeId, findings);
  const databases = deep ? loadedDatabases(parts, findings, options.isOpen) : null;
  for (const [done, row] of contents.historySegments.entries()) {
    onProgress({ phase: "history", done, total: contents.historySegments.length });
    await checkHistorySegment(
      { parts: { ...parts, refs }, chunks, index, findings, databases },
      row,
    );
    await nextTurn();
  }
  return { places: log.places };
}

export interface CheckRun {
  readonly parts: StoreParts;
  readonly findings: Findings;
  readonly index: RevisionIndex;
  readonly chunks: SlotChecker;
  readonly onProgress: (progress: CheckProgress) => void;
  readonly isOpen: boolean;
}

/** Walks all page maps, so that problems get the revisions that meet them. */
export async function checkRoots(run: CheckRun): Promise<void> {
  const { catalog, handles, cipher } = run.parts;
  const { findings, chunks, onProgress } = run;
  const isCurrent = (use: RootUse): boolean => !run.isOpen || hasRoot(run.parts, use);
  const pageMaps = new PageMapChecker({ catalog, handles, cipher, chunks, findings, isCurrent });
  const roots = run.index.roots();
  let nodes = 0;
  for (const [done, use] of roots.entries()) {
    onProgress({ phase: "pages", done, total: roots.length });
    for (const _ of pageMaps.check(use)) {
      if (++nodes % NODES_PER_TURN !== 0) continue;
      onProgress({ phase: "pages", done, total: roots.length });
      await nextTurn();
    }
  }
  pageMaps.finish();
}

/** True also where the catalog cannot say. */
function hasRoot({ catalog }: StoreParts, { databaseId, timeline, root }: RootUse): boolean {
  const isSame = (stored: StoredRoot | null): boolean =>
    Buffer.compare(stored?.nodeId ?? NO_NODE, root.nodeId ?? NO_NODE) === 0;
  try {
    for (const row of catalog.roots(databaseId, timeline, { from: 0, to: Infinity }))
      if (isSame(row.root)) return true;
    for (const stored of catalog.timelines())
      if (stored.row.databaseId === databaseId && isSame(stored.root)) return true;
    return false;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return true;
  }
}

const NO_NODE: Uint8Array = new Uint8Array(0);

/** Pages of commits in the log that are in chunks already. */
function checkLoggedReferences({
  parts,
  refs,
  index,
  chunks,
  log,
}: {
  readonly parts: StoreParts;
  readonly refs: RefState;
  readonly index: RevisionIndex;
  readonly chunks: ChunkChecker;
  readonly log: LogContents;
}): void {
  for (const { databaseId, timeline, version, chunkId, slot } of log.references) {
    const pageSize = refs.databases.get(databaseId)?.row.pageSize;
    if (pageSize === undefined) continue;
    const problem = chunks.slotProblem(parts.handles.intern(chunkId), slot, pageSize);
    if (problem === null) continue;
    const last = log.spans.get(`${databaseId}/${timeline}`)?.last ?? version;
    problem.revisions.add(index.version(databaseId, timeline, range(version, last)));
    for (const revision of index.heads(databaseId, timeline)) problem.revisions.add(revision);
  }
}

/** Chunks newer than the catalog are named by an open store, and by the log where it knows better (check-log.ts). */
function locator(
  { catalog, pending }: StoreParts,
  log: LogContents,
): (id: Uint8Array) => ChunkPlace | undefined {
  return (id) => {
    const key = idKey(id);
    return pending.chunks.get(key)?.location ?? log.places.get(key) ?? catalog.chunk(id);
  };
}

/** What old versions are read through; null when the catalog is too damaged for that, which is reported already. */
function loadedDatabases(
  parts: StoreParts,
  findings: Findings,
  isOpen: boolean,
): ReadonlyMap<number, OpenDatabase> | null {
  if (isOpen) return parts.databases;
  try {
    loadCatalog(parts);
    return parts.databases;
  } catch (error) {
    if (!(error instanceof StoreError) && !findings.hasProblems) throw error;
    return null;
  }
}
