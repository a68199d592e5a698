/**
 * The caller's side of one worker that owns partitions: calls go out together, answers come together, and each call has
 * one promise.
 *
 *   running --the worker exits, and its port has delivered all--> ended: what is not answered is rejected with OWNER_LOST
 *
 * T1. Each call is settled once: by its answer, or by the end of the worker.
 * T2. The process stays alive while a call is under way, and not for the worker itself.
 * T3. "Ended" means that the thread is gone, with its open files and requests: only then may another one open the partitions.
 */
import { MessageChannel, type MessagePort, type Worker } from "node:worker_threads";
import { StoreError } from "../errors.ts";
import { siblingModule, startWorker } from "../worker-program.ts";
import type { CheckProblem } from "../integrity/report.ts";
import { type CarriedError, reviveError } from "./carried-error.ts";
import { withBuffers } from "./carried-values.ts";
import {
  type Answer,
  type Call,
  Operation,
  type OwnerSetup,
  Status,
  Urgent,
  type UrgentMessage,
} from "./message.ts";

/** Calls of one thread that are not answered: more are refused with LIMIT. */
export const CALLS_MAX = 65_536;
/** Of the parameters of those calls, about: with as many no more are taken. */
export const CALL_BYTES_MAX: number = 64 * 1024 * 1024;
const BATCH_CALLS_MAX = 256;
/** They give back what others wait for, and are taken however many calls wait: refused, they would keep it for good. */
const ENDING: ReadonlySet<Operation> = new Set([
  Operation.close,
  Operation.release,
  Operation.leave,
  Operation.end,
  Operation.endAttempt,
]);

export interface CallRequest {
  readonly operation: Operation;
  readonly target: number;
  readonly scope?: number;
  readonly parameters: readonly unknown[];
  readonly signal?: AbortSignal | undefined;
  /** Of the transaction that the call is part of: its reason is the call's, when that is what ended it. */
  readonly outerSignal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
  /** Memory that is handed over with the parameters. */
  readonly transfer?: readonly ArrayBuffer[];
  /** Is told with each answer whether its transaction is open. */
  readonly teller?: { inTransaction: boolean };
  readonly onEvent?: (value: unknown) => void;
  /** Of the store itself, which makes few at a time. */
  readonly isUnbounded?: boolean;
}

/** For tests: a program of their own, and bounds of its memory. */
export interface WorkerChoice {
  readonly program?: string;
  readonly resourceLimits?: { readonly maxOldGenerationSizeMb: number };
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly request: CallRequest;
  /** About, of the parameters. */
  readonly bytes: number;
  unlink: (() => void) | null;
  /** What a function of the caller has thrown meanwhile. */
  failure: { readonly error: unknown } | null;
}

export class OwnerThread {
  /** For messages: "thread 1 of the store". */
  readonly description: string;
  /** Resolves with what the worker says of its partitions; rejects when it cannot open them. */
  readonly opened: Promise<unknown>;
  /** Resolves when it has ended (T3). */
  readonly ended: Promise<void>;
  /** Calls that were answered; the opening, and what it is told by itself, do not count. */
  answeredCount = 0;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #urgent: MessagePort;
  readonly #signals: Int32Array<SharedArrayBuffer> = new Int32Array(new SharedArrayBuffer(4));
  readonly #pending: Map<number, Pending> = new Map();
  #pendingBytes = 0;
  #nextId = 0;
  #batch: Call[] = [];
  #transfer: ArrayBuffer[] = [];
  #isFlushDue = false;
  #hasExited = false;
  #isPortClosed = false;
  #hasEnded = false;
  #cause: unknown = undefined;
  readonly #onDamage: (problem: CheckProblem) => void;
  #markEnded: () => void = () => {};

  constructor(
    partitions: OwnerSetup["partitions"],
    {
      description,
      choice,
      onDamage,
    }: {
      readonly description: string;
      readonly choice: WorkerChoice;
      readonly onDamage: (problem: CheckProblem) => void;
    },
  ) {
    this.description = description;
    this.#onDamage = onDamage;
    this.ended = new Promise((resolve) => (this.#markEnded = resolve));
    const calls = new MessageChannel();
    const urgent = new MessageChannel();
    this.#port = calls.port1;
    this.#urgent = urgent.port1;
    const signals = this.#signals;
    const setup = { port: calls.port2, urgent: urgent.port2, signals, partitions };
    const { program, resourceLimits } = choice;
    this.#worker = startWorker(program ?? siblingModule("owner-program", import.meta.url), {
      workerData: setup,
      transferList: [setup.port, setup.urgent],
      name: "bough-owner",
      ...(resourceLimits === undefined ? {} : { resourceLimits }),
    });
    this.#worker.unref();
    this.#worker.on("error", (error) => (this.#cause = error));
    this.#worker.on("exit", () => {
      this.#hasExited = true;
      this.#endWhenOver();
    });
    this.#port.on("message", (answers: readonly Answer[]) => this.#take(answers));
    this.#port.on("close", () => {
      this.#isPortClosed = true;
      this.#endWhenOver();
    });
    this.#port.unref();
    this.#urgent.unref();
    this.opened = new Promise((resolve, reject) => {
      const request = { operation: 0, target: 0, parameters: [] } as const;
      this.#await(this.#nextId++, {
        resolve,
        reject,
        request,
        bytes: 0,
        unlink: null,
        failure: null,
      });
    });
    this.opened.catch(() => {}); // Told to every call as well.
  }

  /** Why it has ended, if it said so. */
  get cause(): unknown {
    return this.#cause;
  }

  /** How long its event loop has been at work, in milliseconds since it was started. */
  get busyMs(): number {
    return this.#hasEnded ? 0 : this.#worker.performance.eventLoopUtilization().active;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  call(request: CallRequest): Promise<unknown> {
    return new Promise((resolve, reject) => {
      request.signal?.throwIfAborted();
      const id = this.begin(request, resolve, reject);
      const { signal } = request;
      if (signal === undefined) return;
      const pending = this.#pending.get(id);
      if (pending !== undefined) pending.unlink = this.cancelOn(signal, id);
    });
  }

  /** Returns the number of the call. */
  begin(
    request: CallRequest,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ): number {
    if (this.#hasEnded) throw this.#lost();
    const { operation, target, scope = 0, parameters, timeoutMs, transfer } = request;
    if (request.isUnbounded !== true && !ENDING.has(operation)) this.#refuseMore();
    const bytes = bytesOf(parameters);
    const id = this.#nextId++;
    const hasSignal = mayBeCancelled(request);
    const limits = hasSignal || timeoutMs !== undefined ? { hasSignal, timeoutMs } : null;
    this.#await(id, { resolve, reject, request, bytes, unlink: null, failure: null });
    this.#batch.push([id, operation, target, scope, limits, parameters]);
    if (transfer !== undefined) for (const buffer of transfer) this.#transfer.push(buffer);
    if (this.#batch.length >= BATCH_CALLS_MAX) this.#flush();
    else this.#flushSoon();
    return id;
  }

  /** Returns how to take it back. */
  cancelOn(signal: AbortSignal, id: number): () => void {
    const cancel = (): void => this.#tell([Urgent.cancel, id]);
    signal.addEventListener("abort", cancel, { once: true });
    return () => signal.removeEventListener("abort", cancel);
  }

  interrupt(connection: number): void {
    if (!this.#hasEnded) this.#tell([Urgent.interrupt, connection]);
  }

  /** Ends the worker wherever it is. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
    await this.ended;
  }

  /** The worker exits once it has nothing left to do; resolves when it has. */
  async disconnect(): Promise<void> {
    this.#worker.ref();
    this.#port.close();
    this.#urgent.close();
    await this.ended;
  }

  #await(id: number, pending: Pending): void {
    if (this.#pending.size === 0) this.#worker.ref();
    this.#pending.set(id, pending);
    this.#pendingBytes += pending.bytes;
  }

  /** After the microtasks of this turn, in which one answer leads to the next call. */
  #flushSoon(): void {
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    process.nextTick(() => {
      this.#isFlushDue = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#batch.length === 0) return;
    const batch = this.#batch;
    const transfer = this.#transfer;
    this.#batch = [];
    this.#transfer = [];
    try {
      this.#port.postMessage(batch, transfer);
    } catch {
      for (const call of batch) this.#postAlone(call);
    }
  }

  /** Something among the options of one of the calls cannot be cloned. */
  #postAlone(call: Call): void {
    try {
      this.#port.postMessage([call]);
    } catch (cause) {
      const message = `Cannot send the call to ${this.description}: ${String(cause)}`;
      this.#settled(call[0])?.reject(new TypeError(message, { cause }));
    }
  }

  #tell(message: UrgentMessage): void {
    this.#flush();
    this.#urgent.postMessage(message);
    Atomics.add(this.#signals, 0, 1);
  }

  #take(answers: readonly Answer[]): void {
    for (const [id, status, value] of answers) {
      if ((status & Status.event) !== 0) {
        this.#tellCaller(id, value);
        continue;
      }
      const pending = this.#settled(id);
      if (pending === null) continue;
      const { operation, teller, signal, outerSignal } = pending.request;
      if (id > 0 && operation !== Operation.names) this.answeredCount++;
      if (teller !== undefined) teller.inTransaction = (status & Status.inTransaction) !== 0;
      if (pending.failure !== null) pending.reject(pending.failure.error);
      else if ((status & Status.failed) !== 0)
        pending.reject(errorOf(value as CarriedError, signal, outerSignal));
      else if ((status & Status.hasBlobs) === 0) pending.resolve(value);
      else pending.resolve(withBuffers(value));
    }
  }

  /**
   * What a function of the caller throws is what its call fails with when its thread has ended it; the other answers of the message are
   * taken all the same.
   */
  #tellCaller(id: number, event: unknown): void {
    // Damage is found at any time: it comes under the number of the opening.
    if (id === 0) return queueMicrotask(() => this.#onDamage(event as CheckProblem));
    const pending = this.#pending.get(id);
    if (pending === undefined || pending.failure !== null) return;
    try {
      pending.request.onEvent?.(event);
    } catch (error) {
      pending.failure = { error };
      this.#tell([Urgent.cancel, id]);
    }
  }

  #settled(id: number): Pending | null {
    const pending = this.#pending.get(id);
    if (pending === undefined) return null;
    this.#pending.delete(id);
    this.#pendingBytes -= pending.bytes;
    pending.unlink?.();
    if (this.#pending.size === 0) this.#worker.unref();
    return pending;
  }

  #endWhenOver(): void {
    if (!this.#hasExited || !this.#isPortClosed || this.#hasEnded) return;
    this.#hasEnded = true;
    this.#urgent.close();
    const error = this.#lost();
    for (const id of this.#pending.keys()) this.#settled(id)?.reject(error);
    this.#markEnded();
  }

  #lost(): StoreError {
    return new StoreError(
      "OWNER_LOST",
      `Cannot say what became of the call: ${this.description} has ended; open the connection again, and ask store.outcome(id) whether a transaction has committed`,
      { retryable: true, cause: this.#cause },
    );
  }

  /** Throws LIMIT. */
  #refuseMore(): void {
    const calls = this.#pending.size;
    const isFull = calls >= CALLS_MAX;
    if (!isFull && this.#pendingBytes < CALL_BYTES_MAX) return;
    const what = isFull
      ? `${CALLS_MAX} calls to ${this.description} wait for their answers`
      : `${calls} calls to ${this.description} wait for their answers with ${this.#pendingBytes} bytes of parameters`;
    throw new StoreError("LIMIT", `Cannot make the call: ${what}; await some of them first`, {
      retryable: true,
      details: { limit: isFull ? CALLS_MAX : CALL_BYTES_MAX },
    });
  }
}

/** By its signal, or by what its progress is told to. */
function mayBeCancelled({ operation, signal, onEvent }: CallRequest): boolean {
  return signal !== undefined || (operation === Operation.store && onEvent !== undefined);
}

/** About what a value takes in a message. */
function bytesOf(value: unknown): number {
  if (typeof value === "string") return 2 * value.length;
  if (typeof value !== "object" || value === null) return 8;
  if (ArrayBuffer.isView(value)) return value.byteLength;
  let bytes = 8;
  if (Array.isArray(value)) for (const item of value) bytes += bytesOf(item);
  else for (const name in value) bytes += bytesOf((value as Record<string, unknown>)[name]);
  return bytes;
}

/** Carried like any other answer, so that the caller of the function can tell its own error from the owner's. */
export class BodyError extends Error {}

/** What the caller gets for it: of a call that a signal has ended, the signal's reason. */
export function errorOf(carried: CarriedError, ...signals: (AbortSignal | undefined)[]): unknown {
  if (carried.kind === "cancelled")
    for (const signal of signals) if (signal?.aborted === true) return signal.reason;
  return carried.kind === "body" ? new BodyError() : reviveError(carried);
}
