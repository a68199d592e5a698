/**
 * The program of the worker thread that owns the connections to object storage: TLS, hashing and copying happen here. It
 * imports the object store when the first call comes, so that a module that cannot be loaded is an answer, not a
 * dead worker.
 */
import { setTimeout } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";

import { invariant, StoreError } from "../errors.ts";
import type { ListedObject, ObjectStore } from "./object-store.ts";
import {
  ANSWERS,
  ENDED,
  type FromWorker,
  HEARTBEAT,
  type ObjectCall,
  type ObjectResult,
  ownBytes,
  toPlainError,
  type ToWorker,
  type WorkerSetup,
} from "./object-worker-message.ts";

const HEARTBEAT_MS = 200;
const CLOSE_MS = 1000;

interface ObjectStoreModule {
  openObjectStore(url: string, options: unknown): ObjectStore | Promise<ObjectStore>;
}

class ObjectWorker {
  private readonly setup: WorkerSetup;
  private readonly counters: Int32Array;
  private readonly underWay = new Map<number, AbortController>();
  private readonly answers = new Set<Promise<void>>();
  private store: Promise<ObjectStore> | null = null;

  constructor(setup: WorkerSetup) {
    this.setup = setup;
    this.counters = new Int32Array(setup.counters);
    process.on("exit", () => this.raise(ENDED));
    setInterval(() => Atomics.add(this.counters, HEARTBEAT, 1), HEARTBEAT_MS).unref();
    setup.port.on("message", (message: ToWorker) => this.take(message));
  }

  private take(message: ToWorker): void {
    switch (message.kind) {
      case "call":
        this.begin(message.id, message.call);
        break;
      case "cancel":
        this.underWay
          .get(message.id)
          ?.abort(new StoreError("CANCELLED", "Cannot go on with a request: the caller gave up"));
        break;
      case "close":
        void this.close();
        break;
    }
  }

  private begin(id: number, call: ObjectCall): void {
    const answer = this.answer(id, call).finally(() => this.answers.delete(answer));
    this.answers.add(answer);
  }

  private async answer(id: number, call: ObjectCall): Promise<void> {
    const controller = new AbortController();
    this.underWay.set(id, controller);
    try {
      const result = await this.run(call, controller.signal);
      const body = result.op === "get" ? result.object?.body.buffer : undefined;
      this.post({ id, result }, body instanceof ArrayBuffer ? [body] : []);
    } catch (error) {
      this.post({ id, error: toPlainError(error) }, []);
    } finally {
      this.underWay.delete(id);
    }
  }

  private post(message: FromWorker, transfer: ArrayBuffer[]): void {
    this.setup.port.postMessage(message, transfer);
    this.raise(ANSWERS);
  }

  private raise(counter: number): void {
    Atomics.add(this.counters, counter, 1);
    if (counter !== ANSWERS) Atomics.add(this.counters, ANSWERS, 1);
    Atomics.notify(this.counters, ANSWERS);
  }

  private async run(call: ObjectCall, signal: AbortSignal): Promise<ObjectResult> {
    const store = await this.opened();
    switch (call.op) {
      case "get": {
        const { key, range } = call;
        const object = await store.get(key, range === undefined ? { signal } : { range, signal });
        if (object === null) return { op: "get", object };
        return { op: "get", object: { etag: object.etag, body: ownBytes(object.body) } };
      }
      case "put": {
        const { key, body, condition } = call;
        const options = condition === undefined ? { signal } : { condition, signal };
        return { op: "put", etag: (await store.put(key, body, options)).etag };
      }
      case "list":
        return list(store, call, signal);
      case "delete":
        await store.delete(call.keys, { signal });
        return { op: "delete" };
    }
  }

  private opened(): Promise<ObjectStore> {
    this.store ??= this.open();
    return this.store;
  }

  private async open(): Promise<ObjectStore> {
    const { module, url, options } = this.setup;
    // What the module exports is checked by those who name it: remote-client.ts.
    const program = (await import(module)) as ObjectStoreModule;
    return program.openObjectStore(url, options);
  }

  private async close(): Promise<void> {
    for (const controller of this.underWay.values()) {
      controller.abort(
        new StoreError("CANCELLED", "Cannot go on with a request: the client was closed"),
      );
    }
    // Nobody reads the answers; the requests get a moment to end their connections properly.
    await Promise.race([Promise.allSettled(this.answers), setTimeout(CLOSE_MS)]);
    try {
      (await this.store)?.close();
    } finally {
      process.exit();
    }
  }
}

async function list(
  store: ObjectStore,
  call: Extract<ObjectCall, { op: "list" }>,
  signal: AbortSignal,
): Promise<ObjectResult> {
  const { prefix, startAfter, limit } = call;
  const options = startAfter === undefined ? { signal } : { startAfter, signal };
  const objects: ListedObject[] = [];
  for await (const object of store.list(prefix, options)) {
    objects.push(object);
    if (objects.length === limit) return { op: "list", objects, complete: false };
  }
  return { op: "list", objects, complete: true };
}

invariant(parentPort !== null, "A worker thread: this program runs in the main one");
new ObjectWorker(workerData as WorkerSetup);
