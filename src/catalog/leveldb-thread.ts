/**
 * The caller's side of leveldb-worker.ts: one request at a time, each waited for.
 *
 * V6. The library is loaded in this thread too. If only the worker had it, Node would unload its code when the worker
 *     ends, and leveldb's own thread, which outlives every database, would run into nothing: the process would end.
 */
import { createRequire } from "node:module";
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
} from "node:worker_threads";

import {
  LEVEL_WORKER_PROGRAM,
  LevelOperation,
  LevelStatus,
  type LevelWorkerData,
} from "./leveldb-worker.ts";

/** Requests and answers up to this size are not copied as messages. */
const PAYLOAD_SIZE = 256 * 1024;
const NOTHING = new Uint8Array(0);

/** What the library said; `code` is its own, such as LEVEL_CORRUPTION, or empty. */
export class LevelError extends Error {
  override readonly name = "LevelError";
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export class LevelThread {
  readonly #control = new Int32Array(new SharedArrayBuffer(6 * 4));
  readonly #payload = new Uint8Array(new SharedArrayBuffer(PAYLOAD_SIZE));
  readonly #port: MessagePort;
  #requestCount = 0;

  /** Returns once the database is open, or throws LevelError. */
  constructor(directory: string) {
    const load = createRequire(import.meta.url);
    load("classic-level"); // V6
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const workerData: LevelWorkerData = {
      port: port2,
      control: this.#control,
      payload: this.#payload,
      library: load.resolve("classic-level"),
      directory,
      operations: LevelOperation,
      statuses: LevelStatus,
    };
    const worker = new Worker(LEVEL_WORKER_PROGRAM, {
      eval: true,
      execArgv: [],
      workerData,
      transferList: [port2],
    });
    // A program that forgets to close its store ends all the same.
    worker.unref();
    port1.unref();
    try {
      this.request(LevelOperation.open);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** A buffer of the caller's own; null: there is no such key. Throws LevelError. */
  request(operation: LevelOperation, bytes: Uint8Array = NOTHING): Uint8Array | null {
    const control = this.#control;
    const isShared = bytes.byteLength <= PAYLOAD_SIZE;
    if (isShared) this.#payload.set(bytes);
    else this.#port.postMessage(bytes);
    control[2] = operation;
    control[3] = isShared ? bytes.byteLength : -1;
    const before = this.#requestCount++;
    Atomics.store(control, 0, this.#requestCount);
    Atomics.notify(control, 0);
    while (Atomics.load(control, 1) === before) Atomics.wait(control, 1, before);
    const size = control[4] ?? 0;
    const answer =
      size < 0
        ? (receiveMessageOnPort(this.#port)?.message as Uint8Array)
        : this.#payload.slice(0, size);
    if (control[5] === LevelStatus.missing) return null;
    if (control[5] === LevelStatus.done)
      return new Uint8Array(answer.buffer, answer.byteOffset, answer.byteLength);
    const [code = "", ...message] = Buffer.from(answer).toString().split("\n");
    throw new LevelError(code, message.join("\n"));
  }

  /** Waits until the files are closed. */
  close(): void {
    try {
      this.request(LevelOperation.close);
    } finally {
      this.#port.close();
    }
  }
}
