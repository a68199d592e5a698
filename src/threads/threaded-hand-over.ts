/**
 * Hands a database over between partitions in different threads (hand-over.ts), also when one of them ends on the way:
 *
 *   a thread ended --the next has opened its partitions--> settled: the target has it, or it is as before
 *
 * N1. From the start of a thread on, a database that the intent names takes no commits in the source until it is settled.
 */
import { StoreError } from "../errors.ts";
import { handOver } from "../store/hand-over.ts";
import { readIntent, removeIntent } from "../store/hand-over-intent.ts";
import type { HandOverPiece } from "../store/hand-over-piece.ts";
import type { Storage } from "../storage/storage.ts";
import type { Owner } from "./owner.ts";
import type { Place } from "./places.ts";

export interface HandOverPlaces {
  /** The store's own. */
  readonly root: Storage;
  readonly ownerOf: (partition: number) => Owner;
}

/** Resolves with the number of the database in its new partition. */
export async function handOverThreaded(
  places: HandOverPlaces,
  { name, partition: from }: Place,
  to: number,
): Promise<number> {
  const { root, ownerOf } = places;
  const [source, target] = [ownerOf(from), ownerOf(to)];
  let sourceId: number | null = null;
  let targetId = 0;
  try {
    await handOver({
      root,
      database: name,
      from,
      to,
      beginSource: async () => {
        sourceId = (await source.ask(from, "handOver", ["beginSource", name, to])) as number;
        return {
          databaseId: sourceId,
          next: () => source.ask(from, "handOver", ["next"]) as Promise<HandOverPiece | null>,
          finish: async () => void (await source.ask(from, "handOver", ["finish"])),
          abort: async () => void (await source.ask(from, "handOver", ["abortSource"])),
        };
      },
      beginTarget: async () => {
        targetId = (await target.ask(to, "handOver", ["beginTarget"])) as number;
        return {
          databaseId: targetId,
          put: async (piece) => void (await target.ask(to, "handOver", ["put", piece])),
          install: async () => void (await target.ask(to, "handOver", ["install"])),
          abort: async () => void (await target.ask(to, "handOver", ["abortTarget"])),
        };
      },
    });
  } catch (error) {
    if (!isOwnerLost(error)) throw error;
    if (await settle(places)) return targetId;
    // The next thread may have begun with an intent that was taken back since (N1).
    if (sourceId !== null) await source.ask(from, "handOver", ["keep", sourceId]);
    throw error;
  }
  return targetId;
}

/** After a thread has ended on the way. True: the target has the database. */
async function settle({ root, ownerOf }: HandOverPlaces): Promise<boolean> {
  for (;;) {
    const intent = readIntent(root);
    if (intent === null) return false;
    const { from, to, sourceId, targetId } = intent;
    try {
      const isThere = await ownerOf(to).ask(to, "handOver", ["has", targetId]);
      if (isThere === true) await ownerOf(from).ask(from, "handOver", ["forget", sourceId, to]);
      else {
        await ownerOf(to).ask(to, "handOver", ["forgetRows", targetId]);
        await ownerOf(from).ask(from, "handOver", ["keep", sourceId]);
      }
      removeIntent(root);
      return isThere === true;
    } catch (error) {
      if (!isOwnerLost(error)) throw error; // Settled when the store is opened.
    }
  }
}

function isOwnerLost(error: unknown): boolean {
  return error instanceof StoreError && error.code === "OWNER_LOST";
}
