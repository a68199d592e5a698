/**
 * What an awaited call tells of commits outside of connections (heads, logs, sizes, files): Y4 in async-calls.ts holds for it too.
 */
import type { Engine } from "./engine.ts";

/** Resolves with `value` once all that it can tell of is durable: with durability "full" and "remote", on this disk. */
export async function toldDurably<T>({ options, state: { log } }: Engine, value: T): Promise<T> {
  const { lastLsn } = log;
  if (options.durability === "full" && log.durableLsn < lastLsn) await log.flush(lastLsn);
  return value;
}
