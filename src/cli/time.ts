/** Times as users write and read them. */
import { parseRevision } from "../branch/revision.ts";
import { StoreError } from "../errors.ts";
import { UsageError } from "./errors.ts";

/** RFC 3339 with a zone, or a duration from `nowMs` on ("7d", "1h30m"). Throws UsageError, also for what is not in the future. */
export function parseFutureTime(text: string, nowMs: number): Date {
  const time = parseTime(text, nowMs);
  if (time.getTime() > nowMs) return time;
  throw new UsageError(
    `Cannot use the time "${text}": it is not in the future; give a later one or a duration from now on ("7d", "1h30m")`,
  );
}

function parseTime(text: string, nowMs: number): Date {
  try {
    // The same grammar as after the "@" of a revision, where durations carry a minus.
    const isDuration = /^[0-9]+[a-z]/i.test(text);
    const { at } = parseRevision(`database@${isDuration ? "-" : ""}${text}`);
    if (at?.kind === "ago" && isDuration) return new Date(nowMs + at.milliseconds);
    if (at?.kind === "time" && !isDuration) return new Date(at.timestampMs);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
  if (/^-[0-9]/.test(text))
    throw new UsageError(
      `Cannot use the time "${text}": it is not in the future; give a later one or a duration from now on without a minus ("7d", "1h30m")`,
    );
  throw new UsageError(
    `Cannot read the time "${text}": give a time with a zone as in RFC 3339 ("2030-01-31T18:00:00Z") or a duration from now on ("7d", "1h30m")`,
  );
}

/** "7d", "1h30m", "0" in milliseconds; null for "forever". Throws UsageError. */
export function parseDuration(option: string, text: string): number | null {
  if (text === "forever") return null;
  if (text === "0") return 0;
  try {
    const { at } = parseRevision(`database@-${text}`);
    if (at?.kind === "ago") return at.milliseconds;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
  if (text.startsWith("-"))
    throw new UsageError(
      `Cannot read ${option} "${text}": a duration is written without a minus, such as "7d" or "1h30m"`,
    );
  throw new UsageError(
    `Cannot read ${option} "${text}": give a duration ("7d", "1h30m", "0") or "forever"`,
  );
}

const DURATION_UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
] as const;

/** As parseDuration reads it. */
export function showDuration(durationMs: number | null): string {
  if (durationMs === null) return "forever";
  if (durationMs === 0) return "0";
  let rest = durationMs;
  let text = "";
  for (const [unit, unitMs] of DURATION_UNITS) {
    const count = Math.floor(rest / unitMs);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * unitMs;
  }
  return text;
}

export function showTime(time: Date | null): string {
  return time === null ? "" : time.toISOString();
}
