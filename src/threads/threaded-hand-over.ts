/**
 * Hands a database over between partitions in different threads (hand-over.ts). What fails on the way is a crash:
 *
 *   begun --all steps--> done
 *     +----a step fails, or a thread ends--> both threads ended --settled as when the store is opened--> done, or as before
 *
 * N1. No thread opens one of the two partitions while the hand-over is not settled: their owners are held (W3 in owner.ts), and steps
 *     are asked of the threads that it began with.
 * N2. When it cannot be settled, no thread opens them before the store is opened again.
 * N3. Places are as it was settled before other calls go on.
 */
import { handOver } from "../store/hand-over.ts";
import type { HandOverPiece } from "../store/hand-over-piece.ts";
import type { Partitions } from "../store/partitions.ts";
import { Operation } from "./message.ts";
import type { Owner } from "./owner.ts";
import type { OwnerThread } from "./owner-thread.ts";
import type { Place } from "./places.ts";
import type { ServedHandOver } from "./served-hand-over.ts";

export interface HandOverPlaces {
  readonly partitions: Partitions;
  readonly ownerOf: (partition: number) => Owner;
  /** N3. With the number of the database in its new partition. */
  readonly onMoved: (databaseId: number) => void;
}

/** Rejects when the database is as before; or when that is not known (N2). */
export async function handOverThreaded(
  places: HandOverPlaces,
  { name, partition: from }: Place,
  to: number,
): Promise<void> {
  const { partitions, ownerOf, onMoved } = places;
  const owners = new Set([ownerOf(from), ownerOf(to)]);
  const moving = new Moving(ownerOf(from).thread, ownerOf(to).thread, { from, to });
  for (const owner of owners) owner.hold();
  try {
    await moving.run(name, partitions);
    onMoved(moving.targetId);
  } catch (error) {
    if (!moving.hasBegun) throw error; // It was refused, or the thread has ended: nothing is written.
    for (const owner of owners) await owner.terminate();
    if (!settle(partitions, owners) && !moving.hasFinished) throw error;
    onMoved(moving.targetId);
  } finally {
    for (const owner of owners) owner.release();
  }
}

/** N2. True: the target has the database. */
function settle(partitions: Partitions, owners: Iterable<Owner>): boolean {
  try {
    return partitions.settleHandOver();
  } catch (error) {
    for (const owner of owners)
      owner.fail("a hand-over that has failed cannot be settled now", error);
    throw error;
  }
}

/** A hand-over by the threads that it began with. */
class Moving {
  readonly #source: OwnerThread;
  readonly #target: OwnerThread;
  readonly #from: number;
  readonly #to: number;
  /** The source takes no commits. */
  hasBegun = false;
  /** The source has forgotten the database. */
  hasFinished = false;
  targetId = 0;

  constructor(
    source: OwnerThread,
    target: OwnerThread,
    { from, to }: { readonly from: number; readonly to: number },
  ) {
    this.#source = source;
    this.#target = target;
    this.#from = from;
    this.#to = to;
  }

  async run(name: string, { storage: root }: Partitions): Promise<void> {
    const [from, to] = [this.#from, this.#to];
    await handOver({
      root,
      database: name,
      from,
      to,
      beginSource: async () => {
        const databaseId = (await this.#leaving("beginSource", name, to)) as number;
        this.hasBegun = true;
        return {
          databaseId,
          next: async () => (await this.#leaving("next")) as HandOverPiece | null,
          finish: async () => {
            await this.#leaving("finish");
            this.hasFinished = true;
          },
          abort: null,
        };
      },
      beginTarget: async () => {
        this.targetId = (await this.#coming("beginTarget")) as number;
        return {
          databaseId: this.targetId,
          put: async (piece) => void (await this.#coming("put", piece)),
          install: async () => void (await this.#coming("install")),
          abort: null,
        };
      },
    });
  }

  #leaving(step: keyof ServedHandOver, ...parameters: unknown[]): Promise<unknown> {
    return stepOf(this.#source, this.#from, [step, ...parameters]);
  }

  #coming(step: keyof ServedHandOver, ...parameters: unknown[]): Promise<unknown> {
    return stepOf(this.#target, this.#to, [step, ...parameters]);
  }
}

function stepOf(
  thread: OwnerThread,
  partition: number,
  parameters: readonly unknown[],
): Promise<unknown> {
  return thread.call({
    operation: Operation.store,
    target: partition,
    parameters: ["handOver", ...parameters],
    isUnbounded: true,
  });
}
