/** The history segments that somebody reads: readers on old versions, and forks of them that have no page map yet. */
import type { StoreState } from "../checkpoint/store-state.ts";
import type { Tracer } from "../transaction/tracer.ts";

export function historyInUse(state: StoreState): ReadonlySet<number> {
  const segments = new Set<number>();
  const tracer: Tracer = {
    root() {},
    layer() {},
    places() {},
    historySegment: (segment) => void segments.add(segment),
  };
  for (const holder of state.holders) holder.trace(tracer);
  for (const { timelines } of state.databases.values())
    for (const timeline of timelines.values()) timeline.view.trace(tracer);
  return segments;
}
