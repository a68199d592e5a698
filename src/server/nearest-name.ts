/** Which of the names somebody may have meant who has written another one. */
import { editDistance } from "../branch/nearest-names.ts";

/** Null: none is near enough. */
export function nearest(written: string, names: Iterable<string>): string | null {
  let best: string | null = null;
  // A third of it may be wrong, as "port" for "prot" is by two letters.
  let bestDistance = Math.max(2, Math.floor(written.length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(written, name);
    if (distance >= bestDistance) continue;
    best = name;
    bestDistance = distance;
  }
  return best;
}
