/**
 * Lets others have the thread between the pieces of long work. Awaiting what is there already does not: a thousand short statements,
 * one awaited after the other, are one turn of the event loop.
 */
const TURN_MS = 10;

export class FairTurns {
  #until: number = performance.now() + TURN_MS;

  /** To be awaited after each piece; null: there is time left. */
  next(): Promise<void> | null {
    return performance.now() < this.#until ? null : this.#pause();
  }

  async #pause(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#until = performance.now() + TURN_MS;
  }
}
