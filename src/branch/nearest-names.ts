/** Longer names are compared by their beginning: messages are no place for long computations. */
const COMPARED_LENGTH_MAX = 128;

/**
 * Candidates that `name` may be a misspelling of, nearest first (then by alphabet), at most `limit`. Near means: few
 * letters added, lost, changed or swapped, or the one contains the other; letter case does not count.
 */
export function nearestNames(name: string, candidates: Iterable<string>, limit: number): string[] {
  const wanted = name.slice(0, COMPARED_LENGTH_MAX).toLowerCase();
  const near: { candidate: string; distance: number }[] = [];
  for (const candidate of candidates) {
    const compared = candidate.slice(0, COMPARED_LENGTH_MAX).toLowerCase();
    const distance = editDistance(wanted, compared);
    const allowed = Math.max(1, Math.floor(Math.max(wanted.length, compared.length) / 3));
    const contains =
      Math.min(wanted.length, compared.length) >= 3 &&
      (wanted.includes(compared) || compared.includes(wanted));
    if (distance <= allowed || contains) near.push({ candidate, distance });
  }
  near.sort(
    (left, right) => left.distance - right.distance || (left.candidate < right.candidate ? -1 : 1),
  );
  return near.slice(0, limit).map(({ candidate }) => candidate);
}

/** Optimal string alignment: insertions, deletions, changes and swaps of neighbours. */
export function editDistance(left: string, right: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1];
      let best = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + (same ? 0 : 1),
      );
      const swapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      if (row > 1 && column > 1 && swapped)
        best = Math.min(best, (beforePrevious[column - 2] ?? 0) + 1);
      current.push(best);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[right.length] ?? 0;
}
