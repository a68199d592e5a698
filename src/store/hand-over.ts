/**
 * Moves a database from one partition of a store to another: branches, tags, versions, history, retention and outcomes.
 *
 *   begin --intent--> copying --all is there--> installing --the target's catalog has it--> installed --source forgets it--> done
 *                        |                          |
 *                        +--error--> taken back     +--error--> not known: settled when the store is opened
 *
 * M1. At every moment, and after any crash, the database is readable in one partition, with every commit that was acknowledged. It is
 *     in the source until the target's catalog names it, and in the target from then on.
 * M2. It takes no commits meanwhile. When it is not known whether the target has it, it takes none until the store was opened again.
 * M3. Ends that are reached through messages (the partitions are in other threads) may be asked one by one: all state is theirs.
 */
import type { Storage } from "../storage/storage.ts";
import {
  type HandOverIntent,
  readIntent,
  refuseUnsettled,
  removeIntent,
  writeIntent,
} from "./hand-over-intent.ts";
import type { HandOverPiece } from "./hand-over-piece.ts";
import { forgetRows } from "./hand-over-target.ts";
import type { SingleStore } from "./single-store.ts";

export interface HandOverOptions {
  /** The one that it goes to, from 0. */
  readonly partition: number;
}

/** The end that a database leaves: HandOverSource, here or in another thread. */
export interface SourceEnd {
  readonly databaseId: number;
  next(): Promise<HandOverPiece | null> | HandOverPiece | null;
  finish(): Promise<void> | void;
  /** Null: the caller settles what fails, as a crash. */
  readonly abort: (() => void) | null;
}

/** The end that it comes to: HandOverTarget, here or in another thread. */
export interface TargetEnd {
  readonly databaseId: number;
  put(piece: HandOverPiece): Promise<void> | void;
  install(): Promise<void> | void;
  /** As the source's. */
  readonly abort: (() => void) | null;
}

export interface HandOverRequest {
  /** The store's own, where the intent is written. */
  readonly root: Storage;
  readonly database: string;
  readonly from: number;
  readonly to: number;
  readonly beginSource: () => Promise<SourceEnd> | SourceEnd;
  readonly beginTarget: () => Promise<TargetEnd> | TargetEnd;
}

/** Whoever has the store calls this; one at a time. */
export async function handOver(request: HandOverRequest): Promise<void> {
  const { root, database, from, to } = request;
  refuseUnsettled(root);
  const source = await request.beginSource();
  let target: TargetEnd | null = null;
  try {
    target = await request.beginTarget();
    const intent: HandOverIntent = {
      database,
      from,
      to,
      sourceId: source.databaseId,
      targetId: target.databaseId,
    };
    writeIntent(root, intent);
    for (;;) {
      const piece = await source.next();
      if (piece === null) break;
      await target.put(piece);
      await new Promise((resolve) => setImmediate(resolve)); // Others have their turn.
    }
  } catch (error) {
    takeBack(root, source, target);
    throw error;
  }
  await target.install(); // M2.
  await source.finish();
  removeIntent(root);
}

/** What cannot be taken back now is settled when the store is opened; the source goes on either way. */
function takeBack(root: Storage, source: SourceEnd, target: TargetEnd | null): void {
  if (source.abort === null) return;
  try {
    target?.abort?.();
    if (readIntent(root) !== null) removeIntent(root);
  } catch {
    // The error that led here is the one to be told.
  }
  try {
    source.abort();
  } catch {
    // As above.
  }
}

/** M1, after a crash. `open` opens a partition; neither of the two is open. True: the target has the database. */
export function settleHandOver(root: Storage, open: (index: number) => SingleStore): boolean {
  const intent = readIntent(root);
  if (intent === null) return false;
  const { from, to, sourceId, targetId } = intent;
  using target = open(to);
  using source = open(from);
  const hasCome = target.engine.state.databases.has(targetId);
  if (hasCome) {
    const database = source.engine.state.databases.get(sourceId);
    if (database !== undefined) {
      database.movingTo = to;
      source.engine.forgetDatabase(database);
    }
  } else forgetRows(target.engine, targetId);
  removeIntent(root);
  return hasCome;
}
