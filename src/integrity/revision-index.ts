/**
 * Which revisions rest on which page map and which history segment, so that damage can be told by its consequences.
 *
 * X1. A revision rests on the newest root at or before it, in its timeline or those that this grew from, and, between two
 *     checkpoints, on the history segment of the second one. The same rule reads it (snapshot-at.ts).
 */
import { livingBranches, MAIN_BRANCH, type RefState } from "../branch/refs.ts";
import type { CatalogState, CheckpointedTimeline, RootRow } from "../catalog/catalog.ts";
import type { CommitPointer } from "../catalog/rows.ts";
import type { PageMapRoot } from "../page/page-map.ts";

/** Rows that a scan of the catalog found whole. */
export interface ScannedRows {
  state: CatalogState | null;
  readonly timelines: CheckpointedTimeline[];
  readonly roots: {
    readonly databaseId: number;
    readonly timeline: number;
    readonly row: RootRow;
  }[];
  readonly historySegments: { readonly segment: number; readonly databaseId: number }[];
}

/** A page map and what reads it. */
export interface RootUse {
  readonly databaseId: number;
  readonly timeline: number;
  readonly pageSize: number;
  readonly root: PageMapRoot;
  readonly revisions: Set<string>;
}

/** Commits of a timeline that are in the log only. */
export interface LoggedSpan {
  readonly databaseId: number;
  readonly timeline: number;
  readonly first: number;
  last: number;
}

export interface HistorySpan {
  readonly timeline: number;
  readonly from: number;
  readonly to: number;
}

interface IndexedRoot extends RootUse {
  readonly version: number;
  readonly historySegment: number;
}

export class RevisionIndex {
  readonly #refs: RefState;
  /** By database and timeline, ascending by version. */
  readonly #roots: Map<string, IndexedRoot[]> = new Map();
  readonly #segments: Map<number, Set<string>> = new Map();
  readonly #spans: Map<number, HistorySpan[]> = new Map();

  constructor(rows: ScannedRows, refs: RefState, logged: Iterable<LoggedSpan> = []) {
    this.#refs = refs;
    // The log has forgotten these, and the next checkpoint takes their rows away.
    const forgotten = new Set(
      rows.timelines
        .filter(({ row }) => refs.databases.get(row.databaseId)?.timelines.has(row.id) === false)
        .map(({ row }) => `${row.databaseId}/${row.id}`),
    );
    for (const { databaseId, timeline, row } of rows.roots)
      if (!forgotten.has(`${databaseId}/${timeline}`)) this.#addRoot(databaseId, timeline, row);
    for (const { row, root, headVersion } of rows.timelines) {
      if (root === null || forgotten.has(`${row.databaseId}/${row.id}`)) continue;
      const known = this.#rootsOf(row.databaseId, row.id);
      // A fork without commits of its own has a root, but no row in the table of roots.
      if (known.some(({ version }) => version === headVersion)) continue;
      this.#addRoot(row.databaseId, row.id, { version: headVersion, root, historySegment: 0 });
    }
    for (const roots of this.#roots.values()) roots.sort((a, b) => a.version - b.version);
    this.#nameVersions();
    this.#nameHeadsAndTags();
    for (const { databaseId, timeline, first, last } of logged) {
      const name = this.version(databaseId, timeline, range(first, last));
      this.#name(databaseId, { timeline, version: last }, name);
    }
  }

  roots(): RootUse[] {
    return [...this.#roots.values()].flat();
  }

  /** What rests on a history segment. */
  ofSegment(segment: number): ReadonlySet<string> {
    return this.#segments.get(segment) ?? new Set();
  }

  /** The versions whose frames a segment holds: after `from`, before `to`, of each of these timelines. */
  spansOfSegment(segment: number): readonly HistorySpan[] {
    return this.#spans.get(segment) ?? [];
  }

  /** Heads of the living branches: of all databases, of one, or of one timeline of it. */
  heads(databaseId: number | null = null, timeline: number | null = null): string[] {
    const heads: string[] = [];
    for (const database of this.#refs.databases.values()) {
      const { row } = database;
      if (row.deletedAtMs !== null || (databaseId !== null && row.id !== databaseId)) continue;
      for (const branch of livingBranches(database)) {
        const current = branch.history.at(-1)?.timeline;
        if (timeline === null || current === timeline) heads.push(label(row.name, branch.name));
      }
    }
    return heads;
  }

  /** A branch by its id; empty when nothing is known of it. */
  branch(databaseId: number, branchId: number): string[] {
    const database = this.#refs.databases.get(databaseId);
    const branch = database?.branches.get(branchId);
    return database === undefined || branch === undefined
      ? []
      : [label(database.row.name, branch.name)];
  }

  /** How a user names a version of a timeline. */
  version(databaseId: number, timeline: number, version: string): string {
    const database = this.#refs.databases.get(databaseId);
    if (database === undefined) return `database ${databaseId}@${version}`;
    const names = [...database.branches.values()]
      .filter((branch) => branch.history.some((entry) => entry.timeline === timeline))
      .sort((a, b) => Number(a.deletedAtMs !== null) - Number(b.deletedAtMs !== null));
    return `${label(database.row.name, names[0]?.name ?? MAIN_BRANCH)}@${version}`;
  }

  #addRoot(databaseId: number, timeline: number, row: RootRow): void {
    const pageSize = this.#refs.databases.get(databaseId)?.row.pageSize;
    if (pageSize === undefined) return; // The damage to the database's row is reported by itself.
    const key = `${databaseId}/${timeline}`;
    const roots = this.#roots.get(key) ?? [];
    const { root, version, historySegment } = row;
    const revisions = new Set<string>();
    roots.push({ databaseId, timeline, pageSize, root, version, historySegment, revisions });
    this.#roots.set(key, roots);
  }

  #rootsOf(databaseId: number, timeline: number): IndexedRoot[] {
    return this.#roots.get(`${databaseId}/${timeline}`) ?? [];
  }

  #parent(databaseId: number, timeline: number): CommitPointer | null {
    return this.#refs.databases.get(databaseId)?.timelines.get(timeline)?.parent ?? null;
  }

  #nameVersions(): void {
    for (const roots of this.#roots.values()) {
      for (const [index, root] of roots.entries()) {
        const { databaseId, timeline, version, historySegment } = root;
        root.revisions.add(this.version(databaseId, timeline, String(version)));
        if (historySegment === 0) continue;
        const before = roots[index - 1];
        const from = before?.version ?? this.#parent(databaseId, timeline)?.version ?? 0;
        const spans = this.#spans.get(historySegment) ?? [];
        this.#spans.set(historySegment, [...spans, { timeline, from, to: version }]);
        const [first, last] = [from + 1, version - 1];
        if (first > last) continue;
        const name = this.version(databaseId, timeline, range(first, last));
        this.#ofSegment(historySegment).add(name);
        const parent = this.#parent(databaseId, timeline);
        if (before !== undefined) before.revisions.add(name);
        else if (parent !== null) this.#name(databaseId, parent, name);
      }
    }
  }

  #nameHeadsAndTags(): void {
    for (const { row, branches, tags } of this.#refs.databases.values()) {
      if (row.deletedAtMs !== null) continue;
      for (const branch of branches.values()) {
        const timeline = branch.history.at(-1)?.timeline;
        if (branch.deletedAtMs === null && timeline !== undefined)
          this.#name(row.id, { timeline, version: Infinity }, label(row.name, branch.name));
      }
      for (const tag of tags.values()) this.#name(row.id, tag.target, `${row.name}@${tag.name}`);
    }
  }

  /** Adds a name to all that the commit rests on (X1). */
  #name(databaseId: number, at: CommitPointer, name: string): void {
    let { timeline, version } = at;
    for (;;) {
      const roots = this.#rootsOf(databaseId, timeline);
      const root = roots.findLast((candidate) => candidate.version <= version);
      const next = roots.find((candidate) => candidate.version > version);
      const parent = this.#parent(databaseId, timeline);
      const isOwn = version > (root?.version ?? parent?.version ?? 0);
      if (isOwn && next !== undefined && next.historySegment !== 0)
        this.#ofSegment(next.historySegment).add(name);
      root?.revisions.add(name);
      if (root !== undefined || parent === null) return;
      timeline = parent.timeline;
      version = Math.min(version, parent.version);
    }
  }

  #ofSegment(segment: number): Set<string> {
    let names = this.#segments.get(segment);
    if (names === undefined) this.#segments.set(segment, (names = new Set()));
    return names;
  }
}

/** Versions, as a report names them. */
export function range(first: number, last: number): string {
  return first === last ? String(first) : `${first}..${last}`;
}

function label(database: string, branch: string): string {
  return branch === MAIN_BRANCH ? database : `${database}/${branch}`;
}
