import type { RetryClock } from "../remote/retry.ts";
import { Random } from "./random.ts";

/** Time for tests of time limits: a turn of the event loop is 10 ms, however long it takes. */
const TURN_MS = 10;

export class TurnClock implements RetryClock {
  private readonly generator: Random;
  private turns = 0;
  private waiting = 0;
  private ticking = false;

  constructor(seed = 0) {
    this.generator = new Random(seed);
  }

  nowMs(): number {
    return this.turns * TURN_MS;
  }

  random(): number {
    return this.generator.next();
  }

  timer(ms: number, callback: () => void): () => void {
    const due = this.turns + Math.max(1, Math.ceil(ms / TURN_MS));
    let cancelled = false;
    this.waiting++;
    const look = (): void => {
      if (cancelled) return;
      if (this.turns < due) {
        setImmediate(look);
        return;
      }
      cancelled = true;
      this.waiting--;
      callback();
    };
    setImmediate(look);
    this.tick();
    return () => {
      if (!cancelled) this.waiting--;
      cancelled = true;
    };
  }

  /** Goes on while somebody waits. */
  private tick(): void {
    if (this.ticking) return;
    this.ticking = true;
    const turn = (): void => {
      this.turns++;
      if (this.waiting > 0) setImmediate(turn);
      else this.ticking = false;
    };
    setImmediate(turn);
  }
}
