/**
 * What an owner thread does next: calls wait in a Rotation, and some of them begin in each turn of the event loop.
 *
 *   idle --add--> due --event loop--> a turn: some begin --event loop--> the next turn, or idle when none waits
 *
 * F1. A turn begins at most CALLS_PER_TURN calls, those of different databases, and of a database's connections, one after
 *     the other (R1 in rotation.ts). Then the event loop runs: new messages, and commits that became durable, come in between.
 * F2. When a turn took longer than TURN_MS the next one begins half as many calls, down to one; and twice as many when not.
 * F3. Calls of one connection begin in the order in which they were made.
 */
import { Rotation } from "./rotation.ts";

export const CALLS_PER_TURN = 64;
export const TURN_MS = 10;

/** The event loop, for tests. */
export interface EventLoop {
  readonly now: () => number;
  /** Calls `next` when what waits now is done. */
  readonly later: (next: () => void) => void;
}

const EVENT_LOOP: EventLoop = { now: () => performance.now(), later: (next) => setImmediate(next) };

export class Turns<Call> {
  readonly #waiting: Rotation<Call> = new Rotation();
  readonly #begin: (call: Call) => void;
  readonly #loop: EventLoop;
  #calls = CALLS_PER_TURN;
  #isDue = false;

  /** `begin` is called in a turn; what it does goes on right after the turn, up to where it waits for something. */
  constructor(begin: (call: Call) => void, loop: EventLoop = EVENT_LOOP) {
    this.#begin = begin;
    this.#loop = loop;
  }

  /** A call of a connection, by number, in a group: its database. */
  add(group: string, member: number, call: Call): void {
    this.#waiting.add(group, member, call);
    if (this.#isDue) return;
    this.#isDue = true;
    this.#loop.later(() => this.#turn());
  }

  /** Resolves when all that were added before have begun. */
  async allBegun(): Promise<void> {
    while (this.#waiting.size > 0) await new Promise<void>((resolve) => this.#loop.later(resolve));
  }

  /** F1. */
  #turn(): void {
    const begunAt = this.#loop.now();
    for (let count = 0; count < this.#calls; count++) {
      const call = this.#waiting.take();
      if (call === undefined) break;
      this.#begin(call);
    }
    this.#loop.later(() => {
      const isLong = this.#loop.now() - begunAt > TURN_MS;
      this.#calls = isLong
        ? Math.max(1, this.#calls >> 1)
        : Math.min(CALLS_PER_TURN, this.#calls * 2);
      if (this.#waiting.size > 0) this.#turn();
      else this.#isDue = false;
    });
  }
}
