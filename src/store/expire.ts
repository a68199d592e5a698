/**
 * Lets go of what retention does not keep any more, from names to files:
 *
 *   checkpoint   the log's names and commits are in the catalog
 *   purge        deleted branches and databases, then timelines without anything kept, are forgotten
 *   checkpoint   so that replaying the log needs nothing of what goes next
 *   expire       roots, commits and history segments: src/retention/expiry.ts
 */
import type { RefChange } from "../branch/refs.ts";
import { expire, type ExpiryReport } from "../retention/expiry.ts";
import { overdueDeletions, unneededTimelines } from "../retention/purge.ts";
import type { Engine } from "./engine.ts";

export function expireStore(engine: Engine): ExpiryReport {
  engine.expireBranches();
  using _ = engine.collector.dropping();
  engine.checkpoint();
  if (purge(engine)) engine.checkpoint();
  const steps = expire(engine.state, { nowMs: engine.options.now() });
  for (;;) {
    const step = engine.maintain(() => steps.next());
    if (step.done === true) return step.value;
  }
}

export interface ExpireOptions {
  /** Ends it with the signal's reason; what was let go of stays so. */
  readonly signal?: AbortSignal | undefined;
}

/** The same in slices between which the event loop runs. */
export async function expireStoreAsync(
  engine: Engine,
  { signal }: ExpireOptions = {},
): Promise<ExpiryReport> {
  signal?.throwIfAborted();
  engine.expireBranches();
  using _ = engine.collector.dropping();
  await engine.checkpointAsync();
  signal?.throwIfAborted();
  if (purge(engine)) await engine.checkpointAsync();
  const steps = expire(engine.state, { nowMs: engine.options.now() });
  for (;;) {
    const step = engine.maintain(() => steps.next());
    if (step.done === true) return step.value;
    await new Promise((resolve) => setImmediate(resolve));
    if (signal?.aborted !== true) continue;
    steps.return(undefined as never); // It gives back what it has made and not used.
    signal.throwIfAborted();
  }
}

/** True: something was forgotten. */
function purge(engine: Engine): boolean {
  const { state } = engine;
  const nowMs = engine.options.now();
  const apply = (changes: readonly RefChange[]): boolean => {
    for (const change of changes) engine.change(change);
    return changes.length > 0;
  };
  const deletions = apply(overdueDeletions(state, nowMs));
  return apply(unneededTimelines(state, nowMs)) || deletions;
}
