/** Gives a version between two checkpoints a page map of its own, so that it does not need the history any more. */
import type { CommitPointer } from "../catalog/rows.ts";
import { snapshotAt } from "../checkpoint/snapshot-at.ts";
import { storePages } from "../checkpoint/store-pages.ts";
import { newPageWriter, type StoreState } from "../checkpoint/store-state.ts";
import type { PageMapRoot, PageMapUpdate } from "../page/page-map.ts";
import { PagePlaces } from "../page/page-places.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { PageHolder } from "../transaction/tracer.ts";

/** Written, and referred to by nothing until a catalog transaction does. */
export interface MadeRoot {
  readonly root: PageMapRoot;
  readonly timestampMs: number;
  readonly newNodes: PageMapUpdate["newNodes"];
  /** Called when the catalog has it, or nobody wants it. */
  readonly release: () => void;
}

/** Yields now and then. `at` is a commit of the timeline's own. */
export function* makeRoot(
  state: StoreState,
  database: OpenDatabase,
  at: CommitPointer,
): Generator<void, MadeRoot> {
  const head = snapshotAt(state, database, at);
  const { pageSize } = database.refs.row;
  const changes = new PagePlaces();
  const source = head.view.base;
  const holder: PageHolder = {
    trace(tracer) {
      source.trace(tracer);
      tracer.places(changes);
    },
  };
  state.holders.add(holder);
  const release = (): void => void state.holders.delete(holder);
  try {
    const writer = newPageWriter(state, pageSize);
    const base = yield* storePages({ head, layers: [], changes, pageSize }, writer);
    writer.flushSync();
    const { root, newNodes } = state.pageMap.update(base, changes, head.pageCount);
    return { root, timestampMs: head.timestampMs, newNodes, release };
  } catch (error) {
    release();
    throw error;
  }
}
