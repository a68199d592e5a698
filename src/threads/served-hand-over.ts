/**
 * The ends of a hand-over (hand-over.ts) that are in this thread: one leaving and one coming at most, each step asked by itself. What
 * fails on the way is not taken back here: the thread ends (threaded-hand-over.ts).
 */
import { invariant } from "../errors.ts";
import type { Engine } from "../store/engine.ts";
import type { HandOverPiece } from "../store/hand-over-piece.ts";
import { HandOverSource } from "../store/hand-over-source.ts";
import { HandOverTarget } from "../store/hand-over-target.ts";

export class ServedHandOver {
  readonly #engine: Engine;
  readonly #onLeaving: (name: string, to: number) => void;
  #leavesTo: { readonly name: string; readonly to: number } | null = null;
  #source: HandOverSource | null = null;
  #target: HandOverTarget | null = null;

  /** `onLeaving`: from now on the database is in that partition, for all who ask here. */
  constructor(engine: Engine, onLeaving: (name: string, to: number) => void) {
    this.#engine = engine;
    this.#onLeaving = onLeaving;
  }

  async beginSource(name: string, to: number): Promise<number> {
    this.#source = await HandOverSource.begin(this.#engine, name, to);
    this.#leavesTo = { name, to };
    return this.#source.databaseId;
  }

  next(): HandOverPiece | null {
    return this.#leaving().next();
  }

  finish(): void {
    const source = this.#leaving();
    const { name, to } = this.#leavesTo!;
    this.#onLeaving(name, to); // Before whoever opened the store says it, calls for it come.
    source.finish();
    this.#source = null;
  }

  beginTarget(): number {
    this.#target = HandOverTarget.begin(this.#engine);
    return this.#target.databaseId;
  }

  put(piece: HandOverPiece): void {
    this.#coming().put(piece);
  }

  install(): void {
    this.#coming().install();
    this.#target = null;
  }

  #leaving(): HandOverSource {
    invariant(this.#source !== null, "A database is leaving");
    return this.#source;
  }

  #coming(): HandOverTarget {
    invariant(this.#target !== null, "A database is coming");
    return this.#target;
  }
}
