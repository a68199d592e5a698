/**
 * Scrubs an open store for as long as it is open, one pass after another.
 *
 *   waiting --pause over--> reading --end reached--> waiting          waiting, reading --store closes--> over
 *
 * G1. Each problem is told once, until a pass no longer finds it.
 * G2. A scrub that fails, because the disk does not answer say, is tried again after the pause; the store goes on.
 */
import type { StoreParts } from "../checkpoint/store-state.ts";
import { Pace, systemClock } from "../integrity/pace.ts";
import type { CheckProblem } from "../integrity/report.ts";
import { scrubParts } from "../integrity/scrub.ts";
import { waitingAsync } from "../storage/not-local.ts";
import { holdState } from "./hold-state.ts";

export interface BackgroundScrubOptions {
  readonly bytesPerSecond: number;
  readonly onDamage: (problem: CheckProblem) => void;
}

/** Between two passes, so that a small store is not read all the time. */
const PAUSE_MS = 10 * 60 * 1000;

/** `parts` is asked before each pass: a follower goes from state to state. Returns what ends it. */
export function startBackgroundScrub(
  parts: () => StoreParts,
  { bytesPerSecond, onDamage }: BackgroundScrubOptions,
): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const clock = systemClock(false);
  let told: ReadonlySet<string> = new Set();
  const run = async (): Promise<void> => {
    await clock.sleep(0, signal);
    while (!signal.aborted) {
      try {
        const pace = new Pace(bytesPerSecond, clock);
        const state = parts();
        using _ = holdState(state);
        const { problems } = await waitingAsync(() => scrubParts(state, { pace, signal }));
        if (signal.aborted) return;
        const found = new Set<string>();
        for (const problem of problems) {
          const key = `${problem.code} ${problem.message}`;
          found.add(key);
          if (!told.has(key)) onDamage(problem);
        }
        told = found;
      } catch {
        // G2; what is wrong shows itself to those who use the store.
      }
      await clock.sleep(PAUSE_MS, signal);
    }
  };
  void run();
  return () => controller.abort();
}
