/**
 * What waits in order. `shift` of a long array moves all that is left, so that emptying it takes the square of its length.
 *
 * F1. Of the memory at most a half, and HEAD_MAX, is of what has left.
 */

/** A few that have left cost less than moving the others. */
const HEAD_MAX = 64;

export class Fifo<T> {
  #things: T[] = [];
  /** How many at the front have left. */
  #head = 0;

  get size(): number {
    return this.#things.length - this.#head;
  }

  push(thing: T): void {
    this.#things.push(thing);
  }

  /** The first, or undefined. */
  shift(): T | undefined {
    if (this.#head === this.#things.length) return undefined;
    const thing = this.#things[this.#head]!;
    // Nothing keeps alive what has left.
    this.#things[this.#head++] = undefined as T;
    if (this.#head > HEAD_MAX && this.#head * 2 >= this.#things.length) {
      this.#things = this.#things.slice(this.#head);
      this.#head = 0;
    }
    return thing;
  }

  /** One that waits leaves out of order. */
  remove(thing: T): void {
    const index = this.#things.indexOf(thing, this.#head);
    if (index !== -1) this.#things.splice(index, 1);
  }
}
