/**
 * Object storage through a worker thread, which owns the connections: a thread can wait for an answer without its event loop,
 * and does no TLS and hashing.
 *
 *   no worker --first call--> running --close--> closed
 *      ^                         |
 *      +------- worker ends -----+      calls under way fail: REMOTE_UNAVAILABLE
 *
 * C1. Each call is answered once: with the worker's answer, its time limit, its signal, or the end of the worker.
 * C2. Whoever gives up cancels the request in the worker. Its answer, should it come, is dropped.
 * C3. While a thread waits it takes all answers that come, and settles them in the order in which they came. None is lost.
 * C4. Neither the worker nor calls that nobody waits for (`start`) keep the process alive.
 * C5. A waiting thread finds out about a worker that has ended: the worker says so itself as it exits, and one without a
 *     heartbeat for SILENCE_MS counts as ended.
 */
import { StoreError } from "../errors.ts";
import type { FetchOptions } from "../storage/not-local.ts";
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectStore,
  ObjectVersion,
  PutCondition,
  PutOptions,
  RequestOptions,
  StoredObject,
} from "./object-store.ts";
import {
  fromPlainError,
  type ObjectCall,
  type ObjectResult,
  ownBytes,
} from "./object-worker-message.ts";
import { type ObjectStoreOptions, openObjectStore } from "./open-object-store.ts";
import { type Settle, WorkerConnection, type WorkerProgram } from "./remote-client-connection.ts";

/** Objects in one answer of a listing. */
const LIST_BATCH = 10_000;
const GETS_AT_ONCE = 8;

export interface PutSyncOptions extends FetchOptions {
  readonly condition?: PutCondition;
}

export interface GetSyncOptions extends FetchOptions {
  readonly range?: GetOptions["range"];
}

export interface ListSyncOptions extends FetchOptions {
  /** Only keys after this one. */
  readonly startAfter?: string;
}

/** A request that was started; see `RemoteClient.startGet`. */
export interface StartedRequest {
  /** Its callback is not called any more, and the request is cancelled. */
  cancel(): void;
  /** Somebody waits for it: until it is answered, the process goes on. */
  keepAlive(): void;
}

export class RemoteClient implements ObjectStore {
  readonly description: string;
  private readonly program: WorkerProgram;
  private connection: WorkerConnection | null = null;
  private isClosed = false;
  /** Requests begun, by whatever call; repeated attempts are the worker's. */
  requestCount = 0;

  /** For tests, which bring a program of their own. */
  constructor(description: string, program: WorkerProgram) {
    this.description = description;
    this.program = program;
  }

  /** Nothing is started or asked until the first call. Throws REMOTE_URL_INVALID. */
  static open(url: string, options: ObjectStoreOptions = {}): RemoteClient {
    const store = openObjectStore(url, options);
    const { description } = store;
    store.close();
    return new RemoteClient(description, { url, options, module: null });
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    return objectOf(await this.call(getCall(key, options.range), options));
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    const bytes = options.transfer === true ? ownBytes(body) : new Uint8Array(body);
    return versionOf(
      await this.call(putCall(key, bytes, options.condition), options, [bytes.buffer]),
    );
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    let { startAfter } = options;
    for (;;) {
      const { objects, complete } = listOf(await this.call(listCall(prefix, startAfter), options));
      yield* objects;
      if (complete) return;
      startAfter = objects.at(-1)?.key;
    }
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    await this.call({ op: "delete", keys }, options);
  }

  /** `get` while the thread waits. A signal counts only if it is aborted before. */
  getSync(key: string, options: GetSyncOptions = {}): StoredObject | null {
    return objectOf(this.callSync(getCall(key, options.range), options));
  }

  /** Several gets, some at once; the answers in the order of the requests. The time limit is for all; the first failure ends it. */
  getManySync(
    requests: readonly { readonly key: string; readonly range?: GetOptions["range"] }[],
    options: FetchOptions = {},
  ): (StoredObject | null)[] {
    options.signal?.throwIfAborted();
    const answers: (StoredObject | null)[] = requests.map(() => null);
    const underWay = new Map<number, StartedRequest>();
    const failures: Error[] = [];
    let next = 0;
    const startSome = (): void => {
      while (next < requests.length && underWay.size < GETS_AT_ONCE && failures.length === 0) {
        const index = next++;
        const { key, range } = requests[index] as (typeof requests)[number];
        const settled = (error: Error | null, object: StoredObject | null): void => {
          underWay.delete(index);
          answers[index] = object;
          if (error !== null) failures.push(error);
        };
        underWay.set(index, this.startGet(key, range, settled));
      }
    };
    const isDone = (): boolean => {
      startSome();
      return underWay.size === 0 || failures.length > 0;
    };
    const isInTime = this.waitSync(isDone, options.timeoutMs);
    for (const request of underWay.values()) request.cancel();
    if (failures[0] !== undefined) throw failures[0];
    if (isInTime) return answers;
    throw timedOut(
      `get objects in object storage "${this.description}"`,
      options.timeoutMs ?? Infinity,
    );
  }

  putSync(key: string, body: Uint8Array, options: PutSyncOptions = {}): ObjectVersion {
    const bytes = new Uint8Array(body);
    return versionOf(
      this.callSync(putCall(key, bytes, options.condition), options, [bytes.buffer]),
    );
  }

  listSync(prefix: string, options: ListSyncOptions = {}): ListedObject[] {
    const all: ListedObject[] = [];
    const limits = remaining(options);
    for (;;) {
      const { objects, complete } = listOf(
        this.callSync(listCall(prefix, all.at(-1)?.key ?? options.startAfter), limits()),
      );
      for (const object of objects) all.push(object);
      if (complete) return all;
    }
  }

  deleteSync(keys: readonly string[], options: FetchOptions = {}): void {
    this.callSync({ op: "delete", keys }, options);
  }

  /**
   * A get with a callback, called once from the event loop or from any call that waits (C3); it must not throw. It does not
   * keep the process alive by itself.
   */
  startGet(
    key: string,
    range: GetOptions["range"],
    settled: (error: Error | null, object: StoredObject | null) => void,
  ): StartedRequest {
    const settle: Settle = (answer) => {
      if ("error" in answer) settled(fromPlainError(answer.error), null);
      else settled(null, objectOf(answer.result));
    };
    const connection = this.connected();
    const id = connection.start(getCall(key, range), settle);
    return { cancel: () => connection.cancel(id), keepAlive: () => connection.keepAlive(id) };
  }

  /** Waits until `isDone`, settling what is answered meanwhile. False: `timeoutMs` have passed first. */
  waitSync(isDone: () => boolean, timeoutMs: number = Infinity): boolean {
    const deadline = performance.now() + timeoutMs;
    while (!isDone()) {
      if (this.connection === null) return false;
      const left = deadline - performance.now();
      if (!this.connection.waitSync(isDone, left)) return false;
    }
    return true;
  }

  /** Settles what has been answered by now. */
  poll(): void {
    this.connection?.settleAnswered();
  }

  close(): void {
    this.isClosed = true;
    this.connection?.close();
    this.connection = null;
  }

  private connected(): WorkerConnection {
    if (this.isClosed) {
      throw new StoreError(
        "STORE_CLOSED",
        `Cannot reach object storage "${this.description}": its client is closed`,
      );
    }
    if (this.connection === null || this.connection.hasEnded) {
      this.connection = new WorkerConnection(this.program, this.description);
    }
    this.requestCount++;
    return this.connection;
  }

  private call(
    call: ObjectCall,
    { signal }: RequestOptions,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<ObjectResult> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const connection = this.connected();
      const abort = (): void => {
        connection.cancel(id);
        reject(signal?.reason as Error);
      };
      const settle: Settle = (answer) => {
        signal?.removeEventListener("abort", abort);
        if ("error" in answer) reject(fromPlainError(answer.error));
        else resolve(answer.result);
      };
      const id = connection.start(call, settle, transfer);
      connection.keepAlive(id);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  private callSync(
    call: ObjectCall,
    { signal, timeoutMs }: FetchOptions,
    transfer: readonly ArrayBuffer[] = [],
  ): ObjectResult {
    signal?.throwIfAborted();
    const connection = this.connected();
    let answer: Parameters<Settle>[0] | null = null;
    const take: Settle = (given) => {
      answer = given;
    };
    const id = connection.start(call, take, transfer);
    const taken = (): Parameters<Settle>[0] | null => answer;
    connection.waitSync(() => taken() !== null, timeoutMs ?? Infinity);
    const settled = taken();
    if (settled === null) {
      connection.cancel(id);
      throw timedOut(`${call.op} in object storage "${this.description}"`, timeoutMs ?? Infinity);
    }
    if ("error" in settled) throw fromPlainError(settled.error);
    return settled.result;
  }
}

export function timedOut(what: string, timeoutMs: number): StoreError {
  return new StoreError(
    "TIMEOUT",
    `Cannot ${what}: no answer within ${timeoutMs} ms; repeat with a longer limit`,
    { retryable: true, details: { timeoutMs } },
  );
}

/** What is left of a time limit, each time that it is asked. */
function remaining(options: FetchOptions): () => FetchOptions {
  const { timeoutMs } = options;
  if (timeoutMs === undefined) return () => options;
  const deadline = performance.now() + timeoutMs;
  return () => ({ ...options, timeoutMs: Math.max(0, deadline - performance.now()) });
}

function getCall(key: string, range: GetOptions["range"]): ObjectCall {
  return range === undefined ? { op: "get", key } : { op: "get", key, range };
}

function putCall(key: string, body: Uint8Array, condition: PutCondition | undefined): ObjectCall {
  return condition === undefined ? { op: "put", key, body } : { op: "put", key, body, condition };
}

function listCall(prefix: string, startAfter: string | undefined): ObjectCall {
  const call = { op: "list", prefix, limit: LIST_BATCH } as const;
  return startAfter === undefined ? call : { ...call, startAfter };
}

function objectOf(result: ObjectResult): StoredObject | null {
  return expected(result, "get").object;
}

function versionOf(result: ObjectResult): ObjectVersion {
  return { etag: expected(result, "put").etag };
}

function listOf(result: ObjectResult): Extract<ObjectResult, { op: "list" }> {
  return expected(result, "list");
}

function expected<T extends ObjectResult["op"]>(
  result: ObjectResult,
  op: T,
): Extract<ObjectResult, { op: T }> {
  if (result.op !== op) throw new TypeError(`Answer of the object worker: ${result.op} to a ${op}`);
  return result as Extract<ObjectResult, { op: T }>;
}
