/**
 * Brings a plain SQLite database into a branch, as one commit that replaces what the branch held.
 *
 *   open the source -> stage its pages in chunks -> is it unchanged? -> create what is missing -> one commit -> checkpoint
 *
 * A missing database is created, with the file's page size; so is a missing branch of an existing one, from main.
 *
 * I1. Nothing has a name before all pages are in chunks: an import that fails leaves neither a database, a branch nor a
 *     commit, only chunks that nobody refers to. (After a crash between the creation and the commit the database or
 *     branch is there without the commit; importing again completes it.)
 * I2. Memory is bounded but for about 60 bytes per page, which the commit and its checkpoint need: 16 MiB for a file of 1 GiB.
 * I3. An existing branch takes no other writer while the import runs: BRANCH_BUSY.
 */
import { createBranchChange, createDatabaseChange } from "../branch/ref-operations.ts";
import { currentTimelineId, findBranch, findDatabase, MAIN_BRANCH } from "../branch/refs.ts";
import type { BranchRow } from "../catalog/rows.ts";
import { indexPendingPages } from "../checkpoint/index-pending.ts";
import { timelineOf } from "../checkpoint/snapshot-at.ts";
import { newPageWriter } from "../checkpoint/store-state.ts";
import { checkName } from "../branch/names.ts";
import { invariant, StoreError } from "../errors.ts";
import { PagePlaces } from "../page/page-places.ts";
import { lockPageNumber } from "../transaction/snapshot.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
import type { PageHolder } from "../transaction/tracer.ts";
import type { Engine } from "./engine.ts";
import type { ByteProgress } from "./progress.ts";
import { headOf } from "./resolve-revision.ts";
import { SqliteSource } from "./sqlite-source.ts";

export interface ImportOptions {
  /** Called about once per megabyte. */
  readonly onProgress?: ((progress: ByteProgress) => void) | undefined;
  /** Ends the import with the signal's reason; nothing of it is left. */
  readonly signal?: AbortSignal | undefined;
}

export interface ImportResult {
  readonly database: string;
  readonly branch: string;
  /** The commit that holds the content. */
  readonly version: number;
  readonly pageCount: number;
  /** Bytes. */
  readonly pageSize: number;
  /** Commits that were found in the write-ahead log beside the file. */
  readonly walCommits: number;
  /** Pages that the store had already, or that occur more than once. */
  readonly sharedPages: number;
}

export interface ImportTarget {
  readonly database: string;
  readonly branch: string;
}

/** Pages between two rounds of moving the index of new pages into the catalog. */
const INDEX_PAGES = 65_536;

export async function importFile(
  engine: Engine,
  path: string,
  target: ImportTarget,
  options: ImportOptions = {},
): Promise<ImportResult> {
  engine.assertWritable();
  options.signal?.throwIfAborted();
  checkName("database", target.database);
  checkName("branch", target.branch);
  const source = await SqliteSource.open(path);
  let timeline: Timeline | null = null;
  const staged = new PagePlaces();
  const holder: PageHolder = { trace: (tracer) => tracer.places(staged) };
  const { holders } = engine.state;
  try {
    const existing = findTarget(engine, target);
    checkTarget(target, existing, source);
    if (existing.branch !== null && existing.database !== null)
      timeline = reserve(existing.database, existing.branch, source);
    holders.add(holder);
    const sharedPages = await stagePages(engine, source, { ...options, staged });
    source.assertUnchanged();
    options.signal?.throwIfAborted();
    const current = findTarget(engine, target);
    if (existing.branch !== null && current.branch !== existing.branch) throw targetGone(target);
    checkTarget(target, current, source);
    const destination = timeline ?? createTarget(engine, target, { current, source });
    const version = commit(engine, destination, { source, staged });
    if (timeline !== null) timeline.writer = null;
    timeline = null;
    engine.checkpoint();
    const { pageCount, pageSize, walCommits } = source;
    return { ...target, version, pageCount, pageSize, walCommits, sharedPages };
  } finally {
    holders.delete(holder);
    if (timeline !== null) timeline.writer = null;
    source.close();
  }
}

interface ExistingTarget {
  readonly database: OpenDatabase | null;
  readonly branch: BranchRow | null;
}

function findTarget(engine: Engine, target: ImportTarget): ExistingTarget {
  engine.expireBranches();
  const refs = findDatabase(engine.state.refs, target.database);
  if (refs === undefined) return { database: null, branch: null };
  const database = engine.state.databases.get(refs.row.id);
  invariant(database !== undefined, `Database ${refs.row.id} is open`);
  return { database, branch: findBranch(refs, target.branch) ?? null };
}

function checkTarget(
  target: ImportTarget,
  { database, branch }: ExistingTarget,
  source: SqliteSource,
): void {
  if (database === null) {
    if (target.branch === MAIN_BRANCH) return;
    throw new StoreError(
      "DATABASE_NOT_FOUND",
      `Cannot import into branch "${target.branch}" of database "${target.database}": the database does not exist; import into "${target.database}" first`,
      { details: { database: target.database } },
    );
  }
  const { pageSize } = database.refs.row;
  if (pageSize !== source.pageSize)
    throw new StoreError(
      "PAGE_SIZE",
      `Cannot import "${source.path}" into "${target.database}": its pages have ${source.pageSize} bytes, the database's ${pageSize}; import it as another database`,
      { details: { pageSize: source.pageSize, databasePageSize: pageSize } },
    );
  if (branch?.isProtected === true)
    throw new StoreError(
      "BRANCH_PROTECTED",
      `Cannot import into "${target.database}/${target.branch}": the branch is protected, and an import replaces what it holds; unprotect it first`,
    );
}

function targetGone({ database, branch }: ImportTarget): StoreError {
  return new StoreError(
    "BRANCH_NOT_FOUND",
    `Cannot import into "${database}/${branch}": it was deleted or renamed meanwhile`,
  );
}

/** I3. */
function reserve(database: OpenDatabase, branch: BranchRow, source: SqliteSource): Timeline {
  const timeline = timelineOf(database, currentTimelineId(branch));
  if (timeline.writer !== null)
    throw new StoreError(
      "BRANCH_BUSY",
      `Cannot import into "${database.refs.row.name}/${branch.name}": a transaction is writing to it; try again when it has ended`,
      { retryable: true },
    );
  timeline.writer = source;
  return timeline;
}

/** Returns how many pages were shared. */
async function stagePages(
  engine: Engine,
  source: SqliteSource,
  { onProgress, signal, staged }: ImportOptions & { readonly staged: PagePlaces },
): Promise<number> {
  const { pageSize, size: totalBytes } = source;
  const lockPage = lockPageNumber(pageSize);
  const writer = newPageWriter(engine.state, pageSize);
  let indexed = 0;
  try {
    for await (const { firstPage, count, bytes } of source.blocks()) {
      signal?.throwIfAborted();
      for (let index = 0; index < count; index++) {
        const number = firstPage + index;
        if (number === lockPage) continue;
        const page = bytes.subarray(index * pageSize, (index + 1) * pageSize);
        const isFull = writer.add(page, (reference) => staged.set(number, reference));
        if (isFull) await writer.flush();
      }
      if (writer.pagesWritten - indexed >= INDEX_PAGES) {
        indexed = writer.pagesWritten;
        await indexPendingPages(engine.state);
      }
      onProgress?.({ bytes: (firstPage + count - 1) * pageSize, totalBytes });
    }
    await writer.finish();
    await indexPendingPages(engine.state);
  } finally {
    await writer.abandon();
  }
  return writer.pagesShared;
}

/** Creates the database or the branch; throws when somebody else did meanwhile. */
function createTarget(
  engine: Engine,
  target: ImportTarget,
  { current, source }: { current: ExistingTarget; source: SqliteSource },
): Timeline {
  const { state, options } = engine;
  const { database } = current;
  const atMs = options.now();
  if (database === null || target.branch === MAIN_BRANCH) {
    const { pageSize } = source;
    engine.change(createDatabaseChange(state.refs, { name: target.database, pageSize, atMs }));
  } else {
    const main = findBranch(database.refs, MAIN_BRANCH);
    invariant(main !== undefined, `Database "${target.database}" has a main branch`);
    const head = headOf(database, main);
    engine.change(
      createBranchChange(database.refs, {
        name: target.branch,
        from: { timeline: head.timelineId, version: head.version },
        parentBranchId: main.id,
        expiresAtMs: null,
        atMs,
      }),
    );
  }
  const made = findTarget(engine, target);
  invariant(made.database !== null && made.branch !== null, "What was created is there");
  return timelineOf(made.database, currentTimelineId(made.branch));
}

/** Takes `staged` over. */
function commit(
  engine: Engine,
  timeline: Timeline,
  { source, staged }: { source: SqliteSource; staged: PagePlaces },
): number {
  const { pipeline } = engine;
  const prepared = pipeline.prepare(
    [
      {
        timeline,
        snapshot: timeline.head,
        pageCount: source.pageCount,
        keptPageCount: 0,
        dirty: new Map(),
        staged,
      },
    ],
    "full",
  );
  pipeline.publish(prepared);
  timeline.lineage = {}; // Its schema cookie says nothing about what the branch held.
  return timeline.head.version;
}
