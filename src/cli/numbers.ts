import { UsageError } from "./errors.ts";

/** A whole number from 1, of an option. Throws UsageError. */
export function parseCount(option: string, text: string): number {
  const count = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(count) && count >= 1) return count;
  throw new UsageError(`Cannot read ${option} "${text}": it must be a whole number from 1`);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

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
