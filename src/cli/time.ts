/** Times as users write and read them. */
import { parseRevision } from "../branch/revision.ts";
import { StoreError } from "../errors.ts";
import { UsageError } from "./errors.ts";

/** RFC 3339 with a zone, or a duration from `nowMs` on ("7d", "1h30m"). Throws UsageError. */
export function parseFutureTime(text: string, nowMs: number): Date {
  try {
    // The same grammar as after the "@" of a revision, where durations carry a minus.
    const isDuration = /^[0-9]+[a-z]/i.test(text);
    const { at } = parseRevision(`database@${isDuration ? "-" : ""}${text}`);
    if (at?.kind === "ago" && isDuration) return new Date(nowMs + at.milliseconds);
    if (at?.kind === "time" && !isDuration) return new Date(at.timestampMs);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
  throw new UsageError(
    `Cannot read the time "${text}": give a time with a zone as in RFC 3339 ("2030-01-31T18:00:00Z") or a duration from now on ("7d", "1h30m")`,
  );
}

export function showTime(time: Date | null): string {
  return time === null ? "" : time.toISOString();
}
