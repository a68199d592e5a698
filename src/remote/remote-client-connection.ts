import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  type Worker,
} from "node:worker_threads";

import { StoreError } from "../errors.ts";
import { runnableModule, siblingModule, startWorker } from "../worker-program.ts";
import {
  ANSWERS,
  COUNTERS_SIZE,
  ENDED,
  type FromWorker,
  HEARTBEAT,
  type ObjectCall,
  toPlainError,
  type ToWorker,
  type WorkerSetup,
} from "./object-worker-message.ts";

/** A waiting thread looks for the heartbeat this often; the worker beats several times meanwhile. */
const LOOK_MS = 1000;
/** Loading a client for S3 on a busy machine takes seconds, during which no heart beats. */
const SILENCE_MS = 30_000;

export interface WorkerProgram {
  readonly url: string;
  /** Clonable. */
  readonly options: unknown;
  /** URL of a module that exports `openObjectStore(url, options)`; null is bough's own. */
  readonly module: string | null;
  /** Without a heartbeat for this long, the worker counts as ended: by default SILENCE_MS. */
  readonly silenceMs?: number;
}

export type Settle = (answer: FromWorker) => void;

interface Pending {
  readonly settle: Settle;
  keepsAlive: boolean;
}

/** One worker and the calls that it has not answered; see remote-client.ts for the rules. */
export class WorkerConnection {
  private readonly description: string;
  private readonly silenceMsMax: number;
  private readonly worker: Worker;
  private readonly port: MessagePort;
  private readonly counters: Int32Array;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private keepAliveCount = 0;
  private isPortClosed = false;
  private ended = false;

  constructor(program: WorkerProgram, description: string) {
    this.description = description;
    this.silenceMsMax = program.silenceMs ?? SILENCE_MS;
    const { port1, port2 } = new MessageChannel();
    const counters = new SharedArrayBuffer(COUNTERS_SIZE);
    const module =
      program.module === null
        ? siblingModule("open-object-store", import.meta.url)
        : runnableModule(program.module);
    const setup: WorkerSetup = { ...program, module, port: port2, counters };
    this.counters = new Int32Array(counters);
    this.port = port1;
    this.worker = startWorker(siblingModule("object-worker", import.meta.url), {
      workerData: setup,
      transferList: [setup.port],
      name: "bough-objects",
    });
    this.worker.unref();
    this.worker.on("error", (error) => this.end(error));
    this.worker.on("exit", () => this.end());
    // A call that keeps the process alive does so through the port: the worker's own end might come too late.
    port1.on("close", () => {
      this.isPortClosed = true;
      this.end();
    });
    port1.on("message", (message: FromWorker) => this.settle(message));
    port1.unref();
  }

  /** The worker has ended: start no more calls here. */
  get hasEnded(): boolean {
    if (!this.ended && Atomics.load(this.counters, ENDED) !== 0) this.end();
    return this.ended;
  }

  start(call: ObjectCall, settle: Settle, transfer: readonly ArrayBuffer[] = []): number {
    const id = this.nextId++;
    this.pending.set(id, { settle, keepsAlive: false });
    this.post({ kind: "call", id, call }, transfer);
    return id;
  }

  /** The process goes on until the call is settled. */
  keepAlive(id: number): void {
    const pending = this.pending.get(id);
    if (pending === undefined || pending.keepsAlive) return;
    pending.keepsAlive = true;
    if (this.keepAliveCount++ === 0) this.port.ref();
  }

  cancel(id: number): void {
    if (this.take(id) !== null) this.post({ kind: "cancel", id });
  }

  /** Settles what has been answered by now. */
  settleAnswered(): void {
    // Receiving from a port that is about to close ends the process (seen in Node 20). It has delivered everything by then.
    while (!this.isPortClosed) {
      const received = receiveMessageOnPort(this.port);
      if (received === undefined) return;
      this.settle(received.message as FromWorker);
    }
  }

  /** True once `isDone`; false when the time has passed. When the worker ends, what it leaves is settled, and it is true or false. */
  waitSync(isDone: () => boolean, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    let silenceMs = 0;
    for (;;) {
      const answers = Atomics.load(this.counters, ANSWERS);
      this.settleAnswered();
      if (isDone()) return true;
      if (this.hasEnded) return isDone();
      const left = deadline - performance.now();
      if (left <= 0) return false;
      const heartbeat = Atomics.load(this.counters, HEARTBEAT);
      const outcome = Atomics.wait(this.counters, ANSWERS, answers, Math.min(left, LOOK_MS));
      if (outcome !== "timed-out" || heartbeat !== Atomics.load(this.counters, HEARTBEAT)) {
        silenceMs = 0;
      } else {
        silenceMs += Math.min(left, LOOK_MS);
        if (silenceMs >= this.silenceMsMax) this.giveUp(silenceMs);
      }
    }
  }

  /** Ends the worker; what is under way fails. */
  close(): void {
    if (this.ended) return;
    this.post({ kind: "close" });
    this.end(new Error("The client was closed"));
  }

  private giveUp(silenceMs: number): void {
    void this.worker.terminate();
    this.end(new Error(`No sign of life for ${silenceMs} ms`));
  }

  private settle(message: FromWorker): void {
    this.take(message.id)?.settle(message);
  }

  private take(id: number): Pending | null {
    const pending = this.pending.get(id);
    if (pending === undefined) return null;
    this.pending.delete(id);
    if (pending.keepsAlive && --this.keepAliveCount === 0) this.port.unref();
    return pending;
  }

  private end(cause?: unknown): void {
    if (this.ended) return;
    this.settleAnswered();
    this.ended = true;
    const error = toPlainError(
      new StoreError(
        "REMOTE_UNAVAILABLE",
        `Cannot reach object storage "${this.description}": the thread with its connections has ended; repeat the call`,
        { retryable: true, cause },
      ),
    );
    for (const id of this.pending.keys()) this.take(id)?.settle({ id, error });
    this.port.close();
  }

  private post(message: ToWorker, transfer: readonly ArrayBuffer[] = []): void {
    this.port.postMessage(message, [...transfer]);
  }
}
