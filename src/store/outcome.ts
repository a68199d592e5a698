/** What became of a transaction with an id: for a client that lost the answer. */
import { StoreError } from "../errors.ts";
import type { Engine } from "./engine.ts";

export type Outcome =
  | {
      readonly committed: true;
      /** Null: it was deleted, and is gone. */
      readonly database: string | null;
      readonly version: number;
      readonly at: Date;
    }
  /** It has not, and no call that is known here will: nothing with this id has committed since then. */
  | { readonly committed: false; readonly since: Date }
  /**
   * Not known: it is running now, or began before the time from which on outcomes are kept, or this store follows another one, whose
   * newest commits it may not have seen.
   */
  | { readonly committed: null; readonly reason: "running" | "expired" | "following" };

export interface OutcomeRequest {
  /** When the transaction was begun first: if that is longer ago than outcomes are kept, the answer is "expired" instead of no. */
  readonly startedAt?: Date;
}

const ID = /^[0-9a-f]{32}$/;

/** 32 hexadecimal digits, also written as a UUID. */
export function parseTransactionId(id: string): string {
  const digits = typeof id === "string" ? id.replaceAll("-", "").toLowerCase() : "";
  if (ID.test(digits)) return digits;
  throw new TypeError(
    `Cannot use ${JSON.stringify(id)} as the id of a transaction: it is not 32 hexadecimal digits, or a UUID`,
  );
}

/** "Yes" is said of durable commits only: what is not durable yet is made so. */
export function outcomeOf(
  engine: Engine,
  id: string,
  { isRunning, startedAt }: OutcomeRequest & { readonly isRunning: boolean },
): Outcome {
  engine.assertOpen();
  const { outcomes, refs, log } = engine.state;
  const found = outcomes.find(id);
  if (found !== undefined) {
    if (engine.follower === null && found.lsn > log.durableLsn) log.flushSync("full");
    const { version, timestampMs, databaseId } = found;
    const database = refs.databases.get(databaseId)?.row.name ?? null;
    return { committed: true, database, version, at: new Date(timestampMs) };
  }
  if (isRunning) return { committed: null, reason: "running" };
  if (engine.follower !== null) return { committed: null, reason: "following" };
  const sinceMs = outcomes.completeSince();
  if (startedAt !== undefined && startedAt.getTime() <= sinceMs)
    return { committed: null, reason: "expired" };
  return { committed: false, since: new Date(sinceMs) };
}

/** ALREADY_COMMITTED for an id that is known, once that commit is durable. */
export async function requireNewTransaction({ state }: Engine, id: string): Promise<void> {
  const { outcomes, log } = state;
  try {
    outcomes.requireNew(id);
  } catch (error) {
    if (error instanceof StoreError) await log.flush();
    throw error;
  }
}
