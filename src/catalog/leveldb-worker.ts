/**
 * The thread that owns a leveldb database. `classic-level` opens, commits and iterates asynchronously; the catalog is
 * synchronous. So the library runs in a worker, and the caller's thread waits for each answer with Atomics.wait.
 *
 * One request is on its way at a time. Both threads share `control` (32-bit integers) and `payload` (bytes):
 *
 *   control   meaning
 *   0         number of the last request; the worker waits on it
 *   1         number of the last answer; the caller waits on it
 *   2         operation of the request (LevelOperation)
 *   3         size of the request's bytes in `payload`, or -1: they come as a message, since they did not fit
 *   4         the same for the answer
 *   5         status of the answer (LevelStatus)
 *
 * Integers are little-endian. Entries, in requests and answers, one after another: key size u32, value size u32
 * (0xffff_ffff: delete the key), key, value.
 *
 *   operation      request                                                      answer
 *   open           nothing; it is request 1                                     nothing
 *   get            key                                                          value; status missing without one
 *   commit         entries                                                      nothing, once durable
 *   range          u8 reverse, u32 limit + 1 or 0, u32 start size, start, end   u32 number of the iterator, u8 ended, entries
 *   next           u32 number of the iterator                                   the same
 *   leave          u32 number of the iterator                                   nothing
 *   compact        nothing                                                      nothing
 *   close          nothing                                                      nothing; the thread ends
 *
 * An answer with status failed holds UTF-8: the library's code (or nothing), a newline, its message.
 */
import type { MessagePort } from "node:worker_threads";
import type { ClassicLevel, Iterator as LevelIterator, IteratorOptions } from "classic-level";

export const LevelOperation = {
  open: 0,
  get: 1,
  commit: 2,
  range: 3,
  next: 4,
  leave: 5,
  compact: 6,
  close: 7,
} as const;
export type LevelOperation = (typeof LevelOperation)[keyof typeof LevelOperation];

export const LevelStatus = { done: 0, missing: 1, failed: 2 } as const;

export const DELETED = 0xffff_ffff;

export interface LevelWorkerData {
  readonly port: MessagePort;
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly payload: Uint8Array<SharedArrayBuffer>;
  /** Path of the library's main file. */
  readonly library: string;
  readonly directory: string;
  readonly operations: typeof LevelOperation;
  readonly statuses: typeof LevelStatus;
}

type Database = ClassicLevel<Uint8Array, Uint8Array>;

/** Null: there is no such key. */
type Answer = (operation: number, bytes: Buffer) => Promise<Uint8Array | null>;

/**
 * The program of the worker. The functions below run by their source text, so that no loader of TypeScript is needed
 * there: they use nothing but their arguments, globals and what they declare.
 */
export const LEVEL_WORKER_PROGRAM: string = `
  const __name = (value) => value; // some compilers name functions by it
  const { workerData } = require("node:worker_threads");
  (${serveRequests.toString()})(
    workerData,
    require("node:worker_threads").receiveMessageOnPort,
    (${makeAnswer.toString()})(workerData, require, {
      encodeEntries: ${encodeEntries.toString()},
      commit: ${commit.toString()},
      compact: ${compact.toString()},
    }),
  );`;

function encodeEntries(
  id: number,
  entries: readonly (readonly [Uint8Array, Uint8Array])[],
): Uint8Array {
  const head = Buffer.alloc(5);
  head.writeUInt32LE(id, 0);
  head.writeUInt8(entries.length === 0 ? 1 : 0, 4);
  const parts: Uint8Array[] = [head];
  for (const [key, value] of entries) {
    const sizes = Buffer.allocUnsafe(8);
    sizes.writeUInt32LE(key.byteLength, 0);
    sizes.writeUInt32LE(value.byteLength, 4);
    parts.push(sizes, key, value);
  }
  return Buffer.concat(parts);
}

async function commit(database: Database, bytes: Buffer): Promise<void> {
  const batch = database.batch();
  for (let offset = 0; offset < bytes.length;) {
    const keyEnd = offset + 8 + bytes.readUInt32LE(offset);
    const valueSize = bytes.readUInt32LE(offset + 4);
    const key = bytes.subarray(offset + 8, keyEnd);
    offset = keyEnd;
    if (valueSize === 0xffff_ffff) batch.del(key);
    else batch.put(key, bytes.subarray(keyEnd, (offset += valueSize)));
  }
  await batch.write({ sync: true });
}

/**
 * leveldb merges levels into the one below, never the lowest by itself. Deleting two keys that are longer than any in
 * use, and span all of them, makes a table above the lowest. The first round may only write out what is in memory.
 */
async function compact(database: Database): Promise<void> {
  for (let round = 0; round < 2; round++) {
    await database.batch([
      { type: "del", key: Buffer.alloc(2000) },
      { type: "del", key: Buffer.alloc(2000, 0xff) },
    ]);
    await database.compactRange(Buffer.alloc(1), Buffer.alloc(2000, 0xff));
  }
}

function makeAnswer(
  data: LevelWorkerData,
  nodeRequire: NodeJS.Require,
  steps: {
    readonly encodeEntries: typeof encodeEntries;
    readonly commit: typeof commit;
    readonly compact: typeof compact;
  },
): Answer {
  const { operations } = data;
  let database: Database | null = null;
  const iterators = new Map<number, LevelIterator<Database, Uint8Array, Uint8Array>>();
  let iteratorCount = 0;

  const opened = (): Database => {
    if (database === null) throw new Error("the database did not open");
    return database;
  };
  const open = async (): Promise<void> => {
    const { ClassicLevel: Level } = nodeRequire(data.library) as typeof import("classic-level");
    const level: Database = new Level(data.directory, {
      keyEncoding: "view",
      valueEncoding: "view",
    });
    await level.open();
    database = level;
  };
  const next = async (id: number): Promise<Uint8Array> => {
    const iterator = iterators.get(id);
    const entries = iterator === undefined ? [] : await iterator.nextv(1000);
    if (entries.length === 0) {
      iterators.delete(id);
      await iterator?.close();
    }
    return steps.encodeEntries(id, entries);
  };
  const range = (bytes: Buffer): Promise<Uint8Array> => {
    const limit = bytes.readUInt32LE(1);
    const startEnd = 9 + bytes.readUInt32LE(5);
    const options: IteratorOptions<Uint8Array, Uint8Array> = {
      gte: bytes.subarray(9, startEnd),
      lt: bytes.subarray(startEnd),
      reverse: bytes[0] === 1,
      limit: limit === 0 ? -1 : limit - 1,
      highWaterMarkBytes: 65_536,
    };
    iterators.set(++iteratorCount, opened().iterator(options));
    return next(iteratorCount);
  };
  return async (operation, bytes) => {
    const nothing = new Uint8Array(0);
    if (operation === operations.get) return opened().getSync(bytes) ?? null;
    if (operation === operations.range) return range(bytes);
    if (operation === operations.next) return next(bytes.readUInt32LE(0));
    if (operation === operations.open) await open();
    else if (operation === operations.commit) await steps.commit(opened(), bytes);
    else if (operation === operations.leave) {
      const id = bytes.readUInt32LE(0);
      await iterators.get(id)?.close();
      iterators.delete(id);
    } else if (operation === operations.compact) {
      await steps.compact(opened());
    } else await database?.close();
    return nothing;
  };
}

async function serveRequests(
  { port, control, payload, operations, statuses }: LevelWorkerData,
  receive: typeof import("node:worker_threads").receiveMessageOnPort,
  answer: Answer,
): Promise<void> {
  for (let number = 0, isOpen = true; isOpen;) {
    while (Atomics.load(control, 0) === number) Atomics.wait(control, 0, number);
    number++;
    const operation = control[2] ?? 0;
    const size = control[3] ?? 0;
    let result: Uint8Array | null;
    let status: number;
    try {
      // Copies: the library takes no views of shared memory.
      const bytes =
        size < 0
          ? Buffer.from(receive(port)?.message as Uint8Array)
          : Buffer.from(payload.slice(0, size));
      result = await answer(operation, bytes);
      status = result === null ? statuses.missing : statuses.done;
    } catch (thrown) {
      const error = thrown as Error & { code?: string; cause?: Error & { code?: string } };
      const { code = "", message } = error.cause instanceof Error ? error.cause : error;
      result = Buffer.from(`${code}\n${message}`);
      status = statuses.failed;
    }
    const bytes = result ?? new Uint8Array(0);
    const isShared = bytes.byteLength <= payload.byteLength;
    if (isShared) payload.set(bytes);
    else port.postMessage(bytes);
    control[4] = isShared ? bytes.byteLength : -1;
    control[5] = status;
    isOpen = operation !== operations.close;
    Atomics.store(control, 1, number);
    Atomics.notify(control, 1);
  }
  port.close();
}
