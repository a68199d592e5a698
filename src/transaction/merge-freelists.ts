/**
 * The freelist that a concurrent transaction leaves, when others have committed since its snapshot or it was shown an empty one.
 *
 *   own     it was shown an empty list, or the snapshot had none: what it freed, and behind it the head's
 *   shown   it was shown the snapshot's list, and has taken from its front or put pages before it. Others have only put pages
 *           before it meanwhile (or taken those again): theirs, and behind them what is left of the snapshot's
 *
 *   theirs:  X -> Y -> b -> c          ours:  a -> c (b was taken)          shown, merged:  X -> Y -> a -> c
 *
 * E1. In front of the snapshot's first trunk is what others have freed since. If that trunk itself was changed, the pages that the
 *     transaction has read show it (K2 in concurrent-transaction.ts).
 * E2. One trunk is changed to link the two, here a copy.
 */
import { trunkBefore, type Freelist, type StoredFreelist } from "../btree/freelist.ts";

export interface FreelistStates {
  readonly isOwn: boolean;
  readonly base: Freelist;
  /** Page numbers as they will be stored. */
  readonly ours: Freelist;
  /** Of the head, less what the transaction takes for its new pages. */
  readonly theirs: StoredFreelist;
}

export interface FreelistMerge {
  readonly freelist: Freelist;
  /** What to write: the number that the last trunk of that part has to name next. Null: nothing. */
  readonly link:
    | { readonly part: "ours"; readonly next: number }
    | { readonly part: "theirs"; readonly trunk: number; readonly next: number }
    | null;
}

/** Null: they are in conflict. */
export function mergeFreelists({
  isOwn,
  base,
  ours,
  theirs,
}: FreelistStates): FreelistMerge | null {
  if (isOwn) {
    if (ours.count === 0) return { freelist: theirs, link: null };
    const freelist = { trunk: ours.trunk, count: ours.count + theirs.count };
    return { freelist, link: theirs.count === 0 ? null : { part: "ours", next: theirs.trunk } };
  }
  if (isSame(base, theirs)) return { freelist: ours, link: null };
  if (isSame(base, ours)) return { freelist: theirs, link: null };
  const trunk = trunkBefore(theirs, base.trunk);
  if (trunk === null) return null;
  const freelist = { trunk: theirs.trunk, count: ours.count + theirs.count - base.count };
  return { freelist, link: { part: "theirs", trunk, next: ours.trunk } };
}

function isSame(left: Freelist, right: Freelist): boolean {
  return left.trunk === right.trunk && left.count === right.count;
}
