/** What statements are called on, on the caller's side: a connection, or an attempt of a transaction. */
import type { CallLimits } from "../sqlite/async-calls.ts";
import { sendable } from "./carried-values.ts";
import { Operation } from "./message.ts";

export interface CallTarget {
  call(
    operation: Operation,
    parameters: readonly unknown[],
    limits: CallLimits,
    transfer?: readonly ArrayBuffer[],
  ): Promise<unknown>;
}

let numbers = 0;

/** Of connections, statements, iterators, scopes: never the same twice in this thread. */
export function nextNumber(): number {
  return ++numbers;
}

/** The same for calls with values to bind, which are the last parameter. */
export function callWithValues(
  target: CallTarget,
  operation: Operation,
  parameters: readonly unknown[],
  { values, limits }: { readonly values: readonly unknown[]; readonly limits: CallLimits },
): Promise<unknown> {
  const transfer: ArrayBuffer[] = [];
  return target.call(operation, [...parameters, sendable(values, transfer)], limits, transfer);
}

/** A statement in the owner's thread. It is let go of there when no object here uses it any more. */
export class StatementHandle {
  readonly number: number = nextNumber();
}

const handles = new FinalizationRegistry<{ readonly number: number; readonly target: CallTarget }>(
  ({ number, target }) => {
    target.call(Operation.release, [number], {}).catch(() => {}); // Gone with its connection.
  },
);

export function releaseWith(handle: StatementHandle, target: CallTarget): void {
  handles.register(handle, { number: handle.number, target });
}
