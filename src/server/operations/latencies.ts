/** How long things took, as Prometheus counts it: how many were not longer than each bound. Noting one costs a few comparisons. */

/** Milliseconds. */
export const BOUNDS_MS: readonly number[] = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000,
];

export class Latencies {
  /** Of each bound those that are longer than the bound before; the last ones are longer than all bounds. */
  readonly #counts: number[] = Array.from({ length: BOUNDS_MS.length + 1 }, () => 0);
  #sumMs = 0;

  note(ms: number): void {
    let index = 0;
    while (index < BOUNDS_MS.length && ms > BOUNDS_MS[index]!) index++;
    this.#counts[index]!++;
    this.#sumMs += ms;
  }

  get sumMs(): number {
    return this.#sumMs;
  }

  get count(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  /** For each bound how many were not longer. */
  get cumulated(): number[] {
    let sum = 0;
    return BOUNDS_MS.map((_, index) => (sum += this.#counts[index]!));
  }
}
