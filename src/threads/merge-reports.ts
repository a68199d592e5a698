/** One report for the whole store from those of its partitions. */

/**
 * Of reports of one kind: numbers are added up, lists put one behind the other, and true is what is true of all. Other facts
 * are the same in all partitions: the first one's are taken.
 */
export function mergeReports<T>(reports: readonly T[]): T {
  const [first, ...others] = reports;
  if (first === undefined) throw new RangeError("There is at least one partition");
  return others.reduce<T>((sum, report) => merge(sum, report) as T, first);
}

function merge(left: unknown, right: unknown): unknown {
  if (typeof left === "number" && typeof right === "number") return left + right;
  if (typeof left === "boolean" && typeof right === "boolean") return left && right;
  if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right];
  if (!isPlain(left) || !isPlain(right)) return left;
  return Object.fromEntries(
    Object.entries(left).map(([name, value]) => [name, merge(value, right[name])]),
  );
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !(value instanceof Date);
}
