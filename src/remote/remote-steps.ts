/**
 * Procedures over object storage as generators that yield what they ask of it. The same procedure runs in the background, each
 * request a promise, and to its end on the calling thread: at close, or for a commit that waits for object storage.
 *
 * S1. A procedure given up between two requests, also while one is under way, can be begun again from the start: every request
 *     is repeatable, and a conditional put that was done before is recognized by what is there.
 */
import type {
  ListedObject,
  ObjectStore,
  ObjectVersion,
  PutCondition,
  StoredObject,
} from "./object-store.ts";
import type { FetchOptions } from "../storage/not-local.ts";

export type RemoteStep =
  | { readonly type: "get"; readonly key: string; readonly range?: ByteRange }
  | {
      readonly type: "put";
      readonly key: string;
      /** Called when the request is made, so that bodies waiting for their turn take no memory. */
      readonly body: () => Uint8Array;
      readonly condition?: PutCondition;
      /** Each body is made for the request alone. */
      readonly transfer?: boolean;
    }
  | { readonly type: "list"; readonly prefix: string; readonly startAfter?: string }
  | { readonly type: "delete"; readonly keys: readonly string[] }
  /** All of them, some at once. The answer is an array. */
  | { readonly type: "all"; readonly steps: readonly RemoteStep[] }
  /** Others may have a turn. */
  | { readonly type: "pause" };

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export type RemoteProcedure<T> = Generator<RemoteStep, T, unknown>;

/** An object store that the calling thread can wait for. */
export interface SyncObjectStore {
  putSync(
    key: string,
    body: Uint8Array,
    options?: FetchOptions & { readonly condition?: PutCondition },
  ): ObjectVersion;
  getSync(
    key: string,
    options?: FetchOptions & { readonly range?: ByteRange },
  ): StoredObject | null;
  /** Some at once, the answers in order. */
  getManySync(
    requests: readonly { readonly key: string; readonly range?: ByteRange }[],
    options?: FetchOptions,
  ): (StoredObject | null)[];
  listSync(
    prefix: string,
    options?: FetchOptions & { readonly startAfter?: string },
  ): ListedObject[];
  deleteSync(keys: readonly string[], options?: FetchOptions): void;
}

/** Both ways to the same objects. */
export type RemoteAccess = ObjectStore & SyncObjectStore;

/** Requests of one "all" under way at once. */
const PARALLEL_MAX = 4;

export function* getObject(key: string, range?: ByteRange): RemoteProcedure<StoredObject | null> {
  const step = range === undefined ? { key } : { key, range };
  return (yield { type: "get", ...step }) as StoredObject | null;
}

export function* putObject(
  key: string,
  body: Uint8Array,
  condition?: PutCondition,
): RemoteProcedure<ObjectVersion> {
  const step = condition === undefined ? {} : { condition };
  return (yield { type: "put", key, body: () => body, ...step }) as ObjectVersion;
}

export function* listObjects(
  prefix: string,
  startAfter?: string,
): RemoteProcedure<readonly ListedObject[]> {
  const step = startAfter === undefined ? { prefix } : { prefix, startAfter };
  return (yield { type: "list", ...step }) as readonly ListedObject[];
}

/** Once `signal` is aborted the procedure is ended where it is, even if the last request was answered. */
export async function runAsync<T>(
  procedure: RemoteProcedure<T>,
  store: ObjectStore,
  signal: AbortSignal,
): Promise<T> {
  let result = procedure.next();
  while (result.done !== true) {
    let answer: unknown;
    let failure: { readonly error: unknown } | null = null;
    try {
      answer = await perform(result.value, store, { signal });
    } catch (error) {
      failure = { error };
    }
    if (signal.aborted) {
      procedure.return(undefined as never); // It closes what it has open.
      throw signal.reason;
    }
    result = failure === null ? procedure.next(answer) : procedure.throw(failure.error);
  }
  return result.value;
}

/** `timeoutMs` is for all of it. */
export function runSync<T>(
  procedure: RemoteProcedure<T>,
  store: SyncObjectStore,
  options: FetchOptions = {},
): T {
  const until = performance.now() + (options.timeoutMs ?? Infinity);
  let result = procedure.next();
  while (result.done !== true) {
    let answer: unknown;
    try {
      const left = until - performance.now();
      answer = performSync(
        result.value,
        store,
        left === Infinity ? options : { ...options, timeoutMs: Math.max(left, 1) },
      );
    } catch (error) {
      result = procedure.throw(error);
      continue;
    }
    result = procedure.next(answer);
  }
  return result.value;
}

async function perform(
  step: RemoteStep,
  store: ObjectStore,
  options: { readonly signal?: AbortSignal },
): Promise<unknown> {
  switch (step.type) {
    case "get":
      return store.get(
        step.key,
        step.range === undefined ? options : { ...options, range: step.range },
      );
    case "put": {
      const { condition, transfer = false } = step;
      const all = { ...options, transfer };
      return store.put(
        step.key,
        step.body(),
        condition === undefined ? all : { ...all, condition },
      );
    }
    case "list": {
      const { startAfter } = step;
      const listed: ListedObject[] = [];
      const all = startAfter === undefined ? options : { ...options, startAfter };
      for await (const object of store.list(step.prefix, all)) listed.push(object);
      return listed;
    }
    case "delete":
      return store.delete(step.keys, options);
    case "all": {
      const answers: unknown[] = [];
      let next = 0;
      const work = async (): Promise<void> => {
        while (next < step.steps.length) {
          const index = next++;
          answers[index] = await perform(step.steps[index]!, store, options);
        }
      };
      await Promise.all(Array.from({ length: Math.min(PARALLEL_MAX, step.steps.length) }, work));
      return answers;
    }
    case "pause":
      return new Promise((resolve) => setImmediate(resolve));
  }
}

function performSync(step: RemoteStep, store: SyncObjectStore, options: FetchOptions): unknown {
  switch (step.type) {
    case "get":
      return store.getSync(
        step.key,
        step.range === undefined ? options : { ...options, range: step.range },
      );
    case "put": {
      const { condition } = step;
      return store.putSync(
        step.key,
        step.body(),
        condition === undefined ? options : { ...options, condition },
      );
    }
    case "list": {
      const { startAfter } = step;
      return store.listSync(
        step.prefix,
        startAfter === undefined ? options : { ...options, startAfter },
      );
    }
    case "delete":
      store.deleteSync(step.keys, options);
      return undefined;
    case "all": {
      const gets = step.steps.filter((each) => each.type === "get");
      return gets.length === step.steps.length
        ? store.getManySync(gets, options)
        : step.steps.map((each) => performSync(each, store, options));
    }
    case "pause":
      return undefined;
  }
}
