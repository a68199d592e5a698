import { UsageError } from "./errors.ts";

/** A whole number from 1, of an option. Throws UsageError. */
export function parseCount(option: string, text: string): number {
  const count = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(count) && count >= 1) return count;
  throw new UsageError(`Cannot read ${option} "${text}": it must be a whole number from 1`);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** "500", "64KiB", "1.5 GiB" as a whole number of bytes; null for "forever". Throws UsageError. */
export function parseSize(option: string, text: string): number | null {
  if (text === "forever") return null;
  const match = /^([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB|TiB)?$/i.exec(text);
  const unit = UNITS.findIndex((name) => name.toLowerCase() === (match?.[2] ?? "B").toLowerCase());
  const bytes = Math.round(Number(match?.[1]) * 1024 ** unit);
  if (match !== null && Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError(
    `Cannot read ${option} "${text}": it must be a number of bytes, perhaps with a unit (512MiB, 1.5GiB), or "forever" for no bound`,
  );
}

/** "1.5 MiB". */
export function showBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}
