/**
 * What still holds space, so that a user sees why a collection did not free more: for each branch, tag and line of old
 * versions, the stored bytes of the pages that nothing else leads to. What several of them lead to is shared.
 *
 *   head            a branch as it is now
 *   deleted         the head of a deleted branch that can still come back
 *   tag             the commit that a tag names
 *   older versions  what retention keeps of a branch besides its head
 */
import { currentTimelineId } from "../branch/refs.ts";
import type { BranchRow } from "../catalog/rows.ts";
import { snapshotAt, timelineOf } from "../checkpoint/snapshot-at.ts";
import type { ChunkHandle } from "../page/chunk-handle.ts";
import type { PageMapRoot } from "../page/page-map.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { Engine } from "./engine.ts";
import { PageCensus } from "./page-census.ts";

export type SpaceHolderKind = "head" | "deleted" | "tag" | "older versions";

export interface SpaceHolder {
  /** "shop", "shop/dev", "shop@tag". */
  readonly revision: string;
  readonly kind: SpaceHolderKind;
  /** Stored bytes of pages that nothing else holds: about what a collection frees once this is gone. */
  readonly ownBytes: number;
}

export interface HeldSpace {
  /** The largest first. */
  readonly holders: readonly SpaceHolder[];
  /** Of pages that more than one holder has. */
  readonly sharedBytes: number;
  /** Files with the versions between checkpoints, of all databases. */
  readonly historyBytes: number;
}

interface Owner {
  readonly revision: string;
  readonly kind: SpaceHolderKind;
  ownBytes: number;
}

/** Walks every page map that is kept; blocks until it is done. Throws CORRUPT_NODE, CORRUPT_CHUNK. */
export function heldSpace(engine: Engine): HeldSpace {
  engine.checkpoint();
  const { state } = engine;
  const census = new PageCensus(state.pageMap);
  const owners: Owner[] = [];
  const add = (
    { revision, kind }: Pick<Owner, "revision" | "kind">,
    roots: Iterable<PageMapRoot>,
  ): void => {
    owners.push({ revision, kind, ownBytes: 0 });
    for (const root of roots) census.add(root, owners.length);
  };
  for (const database of state.databases.values()) addDatabase(engine, database, add);
  let sharedBytes = 0;
  for (const [chunk, slots] of census.chunks()) {
    const bytes = storedPageBytes(engine, chunk);
    for (const number of slots) {
      if (number === 0) continue;
      const owner = owners[number - 1];
      if (owner === undefined) sharedBytes += bytes;
      else owner.ownBytes += bytes;
    }
  }
  const holders = owners
    .map((owner): SpaceHolder => ({ ...owner, ownBytes: Math.round(owner.ownBytes) }))
    .sort((left, right) => right.ownBytes - left.ownBytes);
  let historyBytes = 0;
  for (const { size } of state.catalog.historySegments()) historyBytes += size;
  return { holders, sharedBytes: Math.round(sharedBytes), historyBytes };
}

type AddHolder = (holder: Pick<Owner, "revision" | "kind">, roots: Iterable<PageMapRoot>) => void;

function addDatabase(engine: Engine, database: OpenDatabase, add: AddHolder): void {
  const { state } = engine;
  const { refs } = database;
  const isGone = refs.row.deletedAtMs !== null;
  const named = new Map<number, string>();
  const heads = new Map<number, number>();
  for (const branch of refs.branches.values()) {
    const revision = nameOf(database, branch);
    const { head } = timelineOf(database, currentTimelineId(branch));
    const isDeleted = isGone || branch.deletedAtMs !== null;
    add({ revision, kind: isDeleted ? "deleted" : "head" }, [rootOf(head)]);
    heads.set(currentTimelineId(branch), head.version);
    for (const { timeline } of branch.history)
      if (!named.has(timeline)) named.set(timeline, revision);
  }
  for (const tag of refs.tags.values()) {
    const snapshot = snapshotAt(state, database, tag.target);
    add({ revision: `${refs.row.name}@${tag.name}`, kind: "tag" }, [rootOf(snapshot)]);
  }
  for (const { row } of database.timelines.values()) {
    const roots: PageMapRoot[] = [];
    const range = { from: 0, to: Infinity };
    for (const { version, root } of state.catalog.roots(row.databaseId, row.id, range))
      if (version !== heads.get(row.id)) roots.push(root);
    const revision = named.get(row.id) ?? refs.row.name;
    if (roots.length > 0) add({ revision, kind: "older versions" }, roots);
  }
}

function rootOf(snapshot: ReturnType<typeof snapshotAt>): PageMapRoot {
  return snapshot.asSource().origin().root;
}

function nameOf({ refs }: OpenDatabase, branch: BranchRow): string {
  return branch.name === "main" ? refs.row.name : `${refs.row.name}/${branch.name}`;
}

/** A page's part of its chunk as stored. */
function storedPageBytes({ state }: Engine, chunk: ChunkHandle): number {
  const location = chunk.location ?? state.chunks.locate(chunk.id);
  if (location === null) return 0; // Damage, which reading and checking report.
  return location.length / state.chunks.readShape(chunk.id, location).presentCount;
}
