/** What the program of an owner thread serves: connections and transactions of the caller. */
import type { CallLimits } from "../sqlite/async-calls.ts";
import type { CarriedError } from "./carried-error.ts";
import type { Call } from "./message.ts";

/** What a call has beside its parameters, and leaves for its answer. */
export interface CallContext {
  readonly limits: CallLimits;
  /** Memory that is handed over with the answer. */
  readonly transfer: ArrayBuffer[];
  readonly event: (value: unknown, transfer?: readonly ArrayBuffer[]) => void;
  /** An error as part of a value. */
  readonly carry: (error: unknown) => CarriedError;
  /** The signal is that of more than this call; returns how to let go of it. */
  readonly keepSignal: () => () => void;
  hasBlobs: boolean;
}

export interface Served {
  /** The database, for F1 in turns.ts. */
  readonly group: string;
  readonly inTransaction: boolean;
  /** Ends the statement that is running, where the caller may ask for it. */
  interrupt?(): void;
  answer(call: Call, context: CallContext): Promise<unknown>;
}
