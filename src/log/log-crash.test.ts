import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import type { OpenFileOptions, Storage, StorageFile } from "../storage/storage.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Log } from "./log.ts";
import { LogReader } from "./log-reader.ts";

/** The same disk, whose asynchronous operations take some turns of the event loop, and are under way when files close. */
function slowed(storage: SimulatedStorage, random: Random): Storage {
  return new Proxy<Storage>(storage, {
    get(target, name): unknown {
      if (name !== "openFileSync") {
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      }
      return (path: string, options: OpenFileOptions) =>
        slowedFile(target.openFileSync(path, options), random);
    },
  });
}

function slowedFile(file: StorageFile, random: Random): StorageFile {
  let pending = 0;
  let closed = false;
  const later = async (action: () => Promise<void>): Promise<void> => {
    if (closed) throw new Error(`"${file.path}" is closed`);
    pending++;
    try {
      for (let turns = random.integer(0, 4); turns > 0; turns--) await turn();
      await action();
    } finally {
      pending--;
      if (closed && pending === 0) file.closeSync();
    }
  };
  return {
    path: file.path,
    readSync: (offset, target) => file.readSync(offset, target),
    read: (offset, target) => file.read(offset, target),
    writeSync: (offset, source) => file.writeSync(offset, source),
    write: (offset, source) => later(() => file.write(offset, source)),
    syncSync: () => file.syncSync(),
    sync: () => later(() => file.sync()),
    sizeSync: () => file.sizeSync(),
    changeMarkSync: () => file.changeMarkSync(),
    truncateSync: (size) => file.truncateSync(size),
    closeSync: () => {
      closed = true;
      if (pending === 0) file.closeSync();
    },
  };
}

const STORE_ID = new Uint8Array(16).fill(5);
const SEGMENT_SIZE = 12288;

/** What a correct log would hold. */
interface Model {
  /** Payload of LSN n at n - 1; its length is the last LSN given out. */
  readonly payloads: string[];
  /** Greatest LSN that some call reported as durable. */
  acknowledged: number;
  /** The checkpoint of the imagined catalog. */
  afterLsn: number;
}

function open(storage: Storage, model: Model): { log: Log; records: string[] } {
  const records: string[] = [];
  let expected = model.afterLsn;
  const log = Log.open({
    storage,
    storeId: STORE_ID,
    cipher: null,
    afterLsn: model.afterLsn,
    segmentSize: SEGMENT_SIZE,
    pendingBytesMax: 6000,
    now: () => 0,
    onRecord: (lsn, kind, payload) => {
      expect(lsn).toBe(++expected);
      records.push(`${kind}:${Buffer.from(payload).toString("latin1")}`);
    },
  });
  return { log, records };
}

/** Appends, flushes in all ways, trims, rotates and reopens, as `random` says; `model` is kept up to date. */
async function work(
  disk: SimulatedStorage,
  random: Random,
  model: Model,
  steps: number,
): Promise<void> {
  const storage = slowed(disk, new Random(random.nextUint32()));
  let { log } = open(storage, model);
  const acknowledge = (lsn: number): void => {
    model.acknowledged = Math.max(model.acknowledged, lsn);
  };
  for (let step = 0; step < steps; step++) {
    const action = random.integer(0, 19);
    if (action < 10) {
      const size = random.chance(0.1) ? random.integer(0, 9000) : random.integer(0, 700);
      const text = `${model.payloads.length}`.padEnd(size, String.fromCharCode(97 + (step % 26)));
      // The record may reach the disk in a call that crashes before it returns.
      model.payloads.push(`${1 + (step % 200)}:${text}`);
      const lsn = log.append(1 + (step % 200), Buffer.from(text, "latin1"));
      expect(lsn).toBe(model.payloads.length);
    } else if (action < 13) {
      log.flushSync("full");
      acknowledge(log.lastLsn);
    } else if (action < 14) log.flushSync("normal");
    else if (action < 16) {
      const lsn = log.lastLsn;
      log.flush().then(
        () => acknowledge(lsn),
        () => undefined,
      );
      if (random.chance(0.5)) await turn();
    } else if (action < 18) {
      const lsn = log.lastLsn;
      await log.flush();
      acknowledge(lsn);
    } else if (action < 19) {
      model.afterLsn = random.integer(model.afterLsn, log.durableLsn);
      log.trim(model.afterLsn);
    } else {
      const choice = random.integer(0, 3);
      if (choice === 0) log.rotate();
      if (choice === 1) {
        await log.close();
        acknowledge(model.payloads.length);
        const again = open(storage, model);
        expect(again.records).toEqual(model.payloads.slice(model.afterLsn));
        log = again.log;
      }
    }
    acknowledge(log.durableLsn);
  }
  await log.close();
  acknowledge(model.payloads.length);
}

async function workUntilCrash(
  storage: SimulatedStorage,
  random: Random,
  model: Model,
  steps: number,
): Promise<void> {
  try {
    await work(storage, random, model, steps);
  } catch (error) {
    if (!storage.isCrashed) throw error;
  }
  // Writes under way meet the dead machine.
  for (let index = 0; index < 20; index++) await turn();
}

/** Opens what a crash left, and compares. The model forgets what was lost. */
function recover(storage: SimulatedStorage, model: Model, label: string): Log {
  const { log, records } = open(storage, model);
  expect(log.lastLsn, label).toBeGreaterThanOrEqual(model.acknowledged);
  expect(log.durableLsn, label).toBe(log.lastLsn);
  expect(records, label).toEqual(model.payloads.slice(model.afterLsn, log.lastLsn));
  model.payloads.length = log.lastLsn;
  model.acknowledged = log.lastLsn;
  return log;
}

function damageIn(storage: SimulatedStorage, model: Model): string[] {
  const { afterLsn } = model;
  const reader = new LogReader({ storage, storeId: STORE_ID, cipher: null, afterLsn });
  const messages: string[] = [];
  for (const entry of reader.entries()) {
    if (entry.type === "damage") messages.push(entry.error.message);
  }
  return messages;
}

const emptyModel = (): Model => ({ payloads: [], acknowledged: 0, afterLsn: 0 });
const seeds = process.env["BOUGH_TEST_LONG"] === undefined ? 3 : 200;

test("a crash at every operation of a workload loses nothing acknowledged and invents nothing", async () => {
  for (let seed = 1; seed <= seeds; seed++) {
    const dry = new SimulatedStorage({ seed });
    await work(dry, new Random(seed), emptyModel(), 60);
    const operations = dry.trace.length;
    for (let count = 1; count <= operations; count += 1) {
      const storage = new SimulatedStorage({ seed });
      storage.crashAt({ count });
      const model = emptyModel();
      await workUntilCrash(storage, new Random(seed), model, 60);
      for (let outcome = 0; outcome < 3; outcome++) {
        const label = `seed ${seed}, crash at ${count}, outcome ${outcome}`;
        const disk = storage.copyAfterCrash(new Random(seed * 1000 + outcome));
        const left = { ...model, payloads: [...model.payloads] };
        expect(damageIn(disk, left), label).toEqual([]);
        recover(disk, left, label).closeSync();
      }
    }
  }
});

test("crash after crash, also while recovering, the log goes on without a gap", async () => {
  for (let seed = 1; seed <= seeds * 20; seed++) {
    const random = new Random(seed * 7919);
    const storage = new SimulatedStorage({ seed });
    const model = emptyModel();
    for (let life = 0; life < 6; life++) {
      storage.crashAt({ count: random.integer(1, 150) });
      await workUntilCrash(storage, random, model, 60);
      if (storage.isCrashed) storage.reboot();
      storage.clearFaults();
      const label = `seed ${seed}, life ${life}`;
      const log = recover(storage, model, label);
      if (random.chance(0.5)) await log.close();
      else storage.reboot();
    }
  }
});

test("after a failing write or sync, what was acknowledged before is there", async () => {
  for (let seed = 1; seed <= seeds * 10; seed++) {
    const random = new Random(seed * 104729);
    const storage = new SimulatedStorage({ seed });
    const model = emptyModel();
    storage.failAt({
      kinds: random.chance(0.5) ? ["sync"] : ["write", "sync", "rename", "syncDirectory"],
      count: random.integer(1, 40),
      systemCode: random.pick(["EIO", "ENOSPC"]),
      dropUnsynced: random.chance(0.5),
    });
    const label = `seed ${seed}`;
    try {
      await work(storage, random, model, 60);
    } catch (error) {
      expect(error, label).toHaveProperty("code");
    }
    for (let index = 0; index < 20; index++) await turn();
    // Recovery may read from the system's cache what the medium does not have; a crash right after must not matter.
    recover(storage, model, label);
    storage.reboot();
    recover(storage, model, `${label} after the crash`);
  }
});
