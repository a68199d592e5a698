/** Garbage collection that somebody asked for and waits for: `store.gc()` and `store.gcAsync()`. */
import type { GarbageProgress, GarbageReport } from "../retention/garbage-cycle.ts";
import type { Engine } from "./engine.ts";
import { expireStore, expireStoreAsync } from "./expire.ts";

export interface GarbageOptions {
  /** Only say what would be freed, of what has been let go of so far: nothing expires for it. */
  readonly dryRun?: boolean | undefined;
}

export interface GarbageAsyncOptions extends GarbageOptions {
  /** Called now and then. */
  readonly onProgress?: ((progress: GarbageProgress) => void) | undefined;
  /** Ends the collection with the signal's reason; what is freed stays freed. */
  readonly signal?: AbortSignal | undefined;
}

const SLICE_MS = 1;

/** Blocks until it is done. */
export function collectGarbage(
  engine: Engine,
  { dryRun: isDryRun = false }: GarbageOptions = {},
): GarbageReport {
  engine.assertWritable();
  if (isDryRun) engine.checkpoint();
  else expireStore(engine);
  engine.beginCollection({ isDryRun, isBlocking: true, isAwaited: true });
  for (;;) {
    const report = engine.collect(Infinity);
    if (report !== null) return report;
  }
}

/** The same in slices, between which the event loop runs. */
export async function collectGarbageAsync(
  engine: Engine,
  { dryRun: isDryRun = false, onProgress, signal }: GarbageAsyncOptions = {},
): Promise<GarbageReport> {
  signal?.throwIfAborted();
  if (isDryRun) await engine.checkpointAsync();
  else await expireStoreAsync(engine, { signal });
  const options = { isDryRun, isBlocking: false, isAwaited: true };
  let cycle = engine.beginCollection(options);
  for (;;) {
    const report = engine.collect(SLICE_MS);
    if (report !== null) return report;
    const { progress } = engine.collector;
    if (progress !== null) onProgress?.(progress);
    await new Promise((resolve) => setImmediate(resolve));
    engine.assertWritable();
    if (signal?.aborted === true) {
      if (engine.collector.cycle === cycle) engine.collector.abandon();
      signal.throwIfAborted();
    }
    // Versions were dropped meanwhile, which ends a cycle.
    if (engine.collector.cycle !== cycle) cycle = engine.beginCollection(options);
  }
}
