/**
 * What passes between the thread that opened a store and the threads that own its partitions.
 *
 *   to the owner      an array of calls, those made in one turn of the event loop
 *   from the owner    an array of answers, likewise; a call gets any number of events and then one answer
 *   urgent, to it     what the owner also looks at in the middle of a statement: [Urgent, number]. After each the first of the
 *                     shared `signals` is raised, so that looking costs one load.
 *
 * M1. Calls are numbered from 1 on in the order in which they were made, and are sent in it; 0 is the opening of the partitions.
 * M2. An urgent message may overtake the call that it is about.
 */
import type { MessagePort } from "node:worker_threads";
import type { PartitionOptions } from "../store/partitions.ts";

export const Operation = {
  open: 0,
  close: 1,
  prepare: 2,
  release: 3,
  run: 4,
  get: 5,
  all: 6,
  values: 7,
  columns: 8,
  next: 9,
  leave: 10,
  exec: 11,
  pragma: 12,
  begin: 13,
  end: 14,
  transact: 15,
  endAttempt: 16,
  /** A method of ServedStore. */
  store: 17,
  closeStores: 18,
  /** ToldNames. */
  names: 19,
  /** Of services (hosted-service.ts): the target is the service's number. */
  loadService: 20,
  endService: 21,
  /** The partition, a revision, the service's number, and what else that needs. */
  openThing: 22,
  /** A method of what was opened so, and its parameters. */
  thing: 23,
  /** The target is the partition; the service's number, and what else that needs. */
  service: 24,
} as const;
export type Operation = (typeof Operation)[keyof typeof Operation];

export interface SentLimits {
  readonly timeoutMs?: number | undefined;
  /** The caller has a signal, and may cancel the call. */
  readonly hasSignal: boolean;
}

export type Call = readonly [
  id: number,
  operation: Operation,
  /** The connection or transaction, by the caller's number; or the partition. */
  target: number,
  /** The transaction(...) of the connection that the call is made from; 0: none. */
  scope: number,
  limits: SentLimits | null,
  parameters: readonly unknown[],
];

/** Bits of an answer. */
export const Status = {
  /** The value is a CarriedError. */
  failed: 1,
  /** More is to come for this call. */
  event: 2,
  /** A transaction of the connection is open. */
  inTransaction: 4,
  /** Some values are blobs. */
  hasBlobs: 8,
} as const;

export type Answer = readonly [id: number, status: number, value: unknown];

export const Urgent = {
  /** The call of this id. */
  cancel: 0,
  /** The connection of this number. */
  interrupt: 1,
} as const;
export type Urgent = (typeof Urgent)[keyof typeof Urgent];
export type UrgentMessage = readonly [Urgent, number];

export interface OwnerSetup {
  readonly port: MessagePort;
  readonly urgent: MessagePort;
  readonly signals: Int32Array<SharedArrayBuffer>;
  readonly partitions: readonly PartitionOptions[];
}

/** Names of living databases with their partitions. */
export type ToldNames =
  | { readonly all: readonly (readonly [name: string, partition: number])[] }
  /** Null: it has gone. */
  | { readonly changed: readonly (readonly [name: string, partition: number | null])[] };

/** How a statement gives its rows, as one number: a RowMode, and 4 for integers as bigint. */
export const SAFE_INTEGERS = 4;
