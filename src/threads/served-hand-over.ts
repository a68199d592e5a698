/** The ends of a hand-over (hand-over.ts) that are in this thread: one leaving and one coming at most, each step asked by itself. */
import { invariant } from "../errors.ts";
import type { Engine } from "../store/engine.ts";
import type { HandOverPiece } from "../store/hand-over-piece.ts";
import { HandOverSource } from "../store/hand-over-source.ts";
import { forgetRows, HandOverTarget } from "../store/hand-over-target.ts";

export class ServedHandOver {
  readonly #engine: Engine;
  #source: HandOverSource | null = null;
  #target: HandOverTarget | null = null;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async beginSource(name: string, to: number): Promise<number> {
    this.#source = await HandOverSource.begin(this.#engine, name, to);
    return this.#source.databaseId;
  }

  next(): HandOverPiece | null {
    return this.#leaving().next();
  }

  finish(): void {
    this.#leaving().finish();
    this.#source = null;
  }

  abortSource(): void {
    this.#source?.abort();
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

  abortTarget(): void {
    this.#target?.abort();
    this.#target = null;
  }

  /** A database that was on its way when the thread before this one ended takes no commits until that is settled. */
  hold(databaseId: number, to: number): void {
    const database = this.#engine.state.databases.get(databaseId);
    if (database !== undefined) database.movingTo = to;
  }

  has(databaseId: number): boolean {
    return this.#engine.state.databases.has(databaseId);
  }

  /** The other partition has it. */
  forget(databaseId: number, to: number): void {
    if (this.#source !== null) return this.finish();
    this.hold(databaseId, to);
    const database = this.#engine.state.databases.get(databaseId);
    if (database !== undefined) this.#engine.forgetDatabase(database);
  }

  /** The other partition does not have it. */
  keep(databaseId: number): void {
    this.abortSource();
    delete this.#engine.state.databases.get(databaseId)?.movingTo;
  }

  forgetRows(databaseId: number): void {
    if (this.#target !== null) this.abortTarget();
    else forgetRows(this.#engine, databaseId);
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
