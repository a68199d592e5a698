/**
 * Random work on a store that uploads to object storage which fails, with power loss, take-overs and writers that go on after they
 * were taken over; what followers, new writers and copies see is judged by the states that the writer had.
 *
 * Always: a state that the writer had; with all that was acknowledged to be in object storage; never older than what the same
 * follower showed before. A writer that another one has taken over gets nothing acknowledged any more, and learns who it was.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import type { Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { Random } from "../src/testing/random.ts";
import type {
  ClientFaults,
  SimulatedRemoteClient,
} from "../src/testing/simulated-remote-client.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { Machines, SimulatedPlace } from "./remote-machines.ts";
import type { StoreModel } from "./store-model.ts";
import { SMALL_STORE, Workload } from "./store-workload.ts";
import { verifyContents } from "./verify-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const KEY = "cd".repeat(32);

const FAULTY: ClientFaults = {
  failBefore: 0.03,
  loseAnswer: 0.03,
  meetOneself: 0.05,
  late: 0.03,
  turnsMax: 4,
};

interface Case {
  readonly seed: number;
  readonly key: string | null;
  readonly faults: ClientFaults;
  readonly steps: number;
  readonly durability?: "full" | "remote";
}

class Simulation implements Disposable {
  private readonly case: Case;
  readonly random: Random;
  private readonly clock = { nowMs: 1_000_000 };
  readonly place: SimulatedPlace;
  readonly machines: Machines;
  /** Of the newest writer. */
  private workload: Workload;
  private client: SimulatedRemoteClient;
  private disk: SimulatedStorage | null;
  /** Of a writer that took over. */
  private directory: string | null = null;
  private history: StoreModel[] = [];
  private acknowledged = 0;
  private readonly clients: SimulatedRemoteClient[] = [];
  private follower: { readonly store: Store; seen: number } | null = null;
  private epoch = 0;
  readonly done: string[] = [];
  /** All that there ever were. */
  private readonly keys = new Set<string | null>();

  constructor(given: Case) {
    this.case = given;
    const { seed, key, faults } = given;
    this.keys.add(key);
    this.random = new Random(seed);
    this.place = new SimulatedPlace(seed, () => this.clock.nowMs);
    this.place.faults = faults;
    this.machines = new Machines({
      place: this.place,
      random: this.random,
      now: () => (this.clock.nowMs += 10),
      keys: () => [...this.keys],
    });
    this.disk = new SimulatedStorage({ seed });
    this.client = this.connect();
    this.workload = this.newWorkload();
    this.history = [this.workload.acknowledged];
    this.workload.start();
  }

  private connect(): SimulatedRemoteClient {
    const client = this.place.connect();
    this.clients.push(client);
    return client;
  }

  private newWorkload(): Workload {
    const workload = new Workload({
      random: this.random,
      key: this.workloadKey(),
      lastName: this.epoch++ * 1000,
      open: (key) => ({
        ...this.writing(),
        now: this.machines.now,
        ...(this.disk === null ? {} : { storage: this.disk }),
        remote: {
          url: this.place.url,
          ...this.place.options(() => (this.client = this.connect())),
        },
        ...(key === null ? {} : { key }),
      }),
      ...(this.disk === null
        ? {
            openStore: () =>
              this.machines.takeOver(
                this.directory!,
                () => (this.client = this.connect()),
                this.writing(),
              ),
          }
        : {}),
    });
    workload.onDone = (models) => {
      this.history.push(...models);
      if (this.case.durability === "remote") this.acknowledged = this.history.length - 1;
    };
    return workload;
  }

  private writing(): StoreOptions {
    const { backend: _, ...sizes } = SMALL_STORE;
    const durability = this.case.durability ?? "full";
    return { ...(this.disk === null ? sizes : SMALL_STORE), durability };
  }

  private workloadKey(): string | null {
    return this.workload === undefined ? this.case.key : (this.workload.keys[0] ?? null);
  }

  async step(): Promise<void> {
    const { random } = this;
    const choice = random.integer(1, 100);
    if (choice <= 55) this.write();
    else if (choice <= 68) await this.upload();
    else if (choice <= 74) await this.giveUp();
    else if (choice <= 78) this.collectGarbage();
    else if (choice <= 83) await this.collectRemote();
    else if (choice <= 90) await this.follow();
    else if (choice <= 92) await this.freshFollower();
    else if (choice <= 94) await this.restore();
    else if (choice <= 97) this.crash();
    else await this.takeOver();
    if (random.chance(0.1)) this.pass(random.pick([1000, 60_000, 400_000, 700_000]));
  }

  private pass(ms: number): void {
    this.done.push(`${ms} ms pass`);
    this.clock.nowMs += ms;
  }

  private write(): void {
    const before = this.workload.done.length;
    this.workload.step();
    this.keys.add(this.workload.keys[0] ?? null);
    this.done.push(...this.workload.done.slice(before));
  }

  /** What may fail; true when it did not. */
  private async try(what: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      this.done.push(what);
      return true;
    } catch (error) {
      const isRetryable = error instanceof StoreError && error.retryable;
      if (!isRetryable) throw error;
      this.done.push(`${what}: ${error.code}`);
      return false;
    }
  }

  private async upload(): Promise<void> {
    const index = this.history.length - 1;
    if (await this.try("upload", () => this.workload.store.upload())) this.acknowledged = index;
  }

  /** An upload in the background that another one ends anywhere. */
  private async giveUp(): Promise<void> {
    const { store } = this.workload;
    const background = store.upload().then(
      () => undefined,
      (error: unknown) => error,
    );
    for (let turn = this.random.integer(0, 40); turn > 0; turn--) await nextTurn();
    if (this.random.chance(0.3)) this.write();
    const index = this.history.length - 1;
    const isDone = await this.try("upload at once", async () =>
      this.workload.store.engine.uploads!.flushSync(),
    );
    if (isDone) this.acknowledged = index;
    const error = await background;
    // A step may have closed the store.
    if (error !== undefined && store.isOpen) expect(error).toMatchObject({ retryable: true });
  }

  private collectGarbage(): void {
    this.done.push("gc");
    this.workload.store.gc();
  }

  private async collectRemote(): Promise<void> {
    await this.try("collect remote", () => this.workload.store.collectRemote());
  }

  /** A follower that stays. */
  private async follow(): Promise<void> {
    if (this.follower === null) {
      const store = await this.opened("follow", () => this.machines.follow());
      if (store === null) return;
      this.follower = { store, seen: this.machines.verify(store, this.history, 0) };
      return;
    }
    const { follower } = this;
    const from = Math.max(follower.seen, this.acknowledged);
    const outcome = await this.refresh(follower.store);
    if (outcome === "other key") return;
    follower.seen = this.machines.verify(
      follower.store,
      this.history,
      outcome === "shown" ? from : follower.seen,
    );
    if (this.random.chance(0.1)) {
      follower.store.close();
      this.follower = null;
    }
  }

  /** A follower is opened with one key; when that has been changed it says so, and has to be opened again. */
  private async refresh(store: Store): Promise<"shown" | "failed" | "other key"> {
    try {
      return (await this.try("refresh", () => store.refresh())) ? "shown" : "failed";
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== "KEY_WRONG") throw error;
      this.done.push("refresh: KEY_WRONG");
      expect(store.followerStatus!.lastError).toContain("was given");
      store.close();
      this.follower = null;
      return "other key";
    }
  }

  /** Opens with one of the keys; null when object storage fails. */
  private async opened(what: string, open: () => Store | Promise<Store>): Promise<Store | null> {
    if (this.acknowledged === 0) return null;
    const stores: Store[] = [];
    await this.try(what, async () => stores.push(await open()));
    return stores[0] ?? null;
  }

  private async freshFollower(): Promise<void> {
    const store = await this.opened("follow afresh", () => this.machines.follow());
    if (store === null) return;
    this.machines.verify(store, this.history, this.acknowledged);
    store.close();
  }

  private async restore(): Promise<void> {
    const store = await this.opened("restore", () => this.machines.restore());
    if (store === null) return;
    this.machines.verify(store, this.history, this.acknowledged);
    store.close();
  }

  /** Of the writer; on a disk of its own. */
  private crash(): void {
    if (this.disk === null) return;
    this.done.push("power loss");
    this.disk = this.disk.copyAfterCrash(this.random);
    this.workload.recover((store, model) => verifyContents(store, model, this.random));
  }

  private async takeOver(): Promise<void> {
    if (this.acknowledged === 0) return;
    let client = this.client;
    const connect = (): SimulatedRemoteClient => (client = this.connect());
    let store: Store | null = null;
    let directory = "";
    // One that fails half-way may have fenced the writer off already: it is repeated, there or elsewhere.
    for (let attempt = 0; store === null; attempt++) {
      this.place.faults = attempt < 2 ? this.case.faults : {};
      if (directory === "" || this.random.chance(0.5)) directory = this.machines.directory();
      const wasDisk = this.disk;
      this.disk = null;
      store = await this.opened("take over", () =>
        this.machines.takeOver(directory, connect, this.writing()),
      );
      this.disk = wasDisk;
    }
    this.place.faults = this.case.faults;
    const old = { workload: this.workload, client: this.client };
    const index = this.machines.verify(store, this.history, this.acknowledged);
    this.history = this.history.slice(0, index + 1);
    this.acknowledged = index;
    this.disk = null;
    this.directory = directory;
    this.client = client;
    this.workload = this.newWorkload();
    this.workload.keys = old.workload.keys;
    old.workload.onDone = () => {};
    this.workload.goOn(store, this.history[index]!);
    await this.goOnFenced(old.workload, old.client);
    if (this.follower !== null) this.follower.seen = Math.min(this.follower.seen, index);
  }

  /** The writer that was taken over goes on for a while: nothing of that is ever seen. */
  private async goOnFenced(workload: Workload, client: SimulatedRemoteClient): Promise<void> {
    client.faults = { ...client.faults, failBefore: 0, loseAnswer: 0, late: 0 };
    workload.mayReopen = false;
    const fenced = expect.objectContaining({
      code: "FENCED",
      message: expect.stringContaining(`process ${process.pid} on`) as string,
    });
    if (this.case.durability !== "remote")
      for (let step = this.random.integer(0, 4); step > 0; step--) workload.step();
    // What moved nothing since it was uploaded has nothing to be refused.
    const { durableLsn, uploadedLsn } = workload.store.uploadStatus!;
    if (durableLsn > uploadedLsn) {
      await expect(workload.store.upload()).rejects.toThrow(fenced);
      expect(() => workload.store.createDatabase("late")).toThrow(fenced);
      expect(workload.store.uploadStatus!.state).toBe("fenced");
    }
    workload.store.close();
  }

  /** At the end object storage works: everything goes up. */
  async end(): Promise<void> {
    for (const client of this.clients) {
      client.faults = {};
      client.settleLate();
    }
    this.place.faults = {};
    await this.upload();
    await this.workload.store.upload();
    await this.freshFollower();
    await this.restore();
    await this.follow();
    this.follower?.store.close();
    const { uploadStatus } = this.workload.store;
    expect(uploadStatus?.lastError).toBe(null);
    this.workload.store.close();
  }

  [Symbol.dispose](): void {
    this.machines[Symbol.dispose]();
  }
}

async function simulate(given: Case): Promise<void> {
  using simulation = new Simulation(given);
  try {
    for (let step = 0; step < given.steps; step++) await simulation.step();
    await simulation.end();
  } catch (error) {
    const { done } = simulation;
    const label = `seed ${given.seed}, after ${done.length} steps, the last ones: ${done.slice(-12).join("; ")}`;
    throw new Error(`${label}\n${String(error)}`, { cause: error });
  }
}

describe("a store in object storage shows to others what its writer had", () => {
  const cases: readonly (readonly [string, Omit<Case, "seed">])[] = [
    ["when nothing fails", { key: null, faults: {}, steps: 120 }],
    ["when much fails", { key: null, faults: FAULTY, steps: 120 }],
    ["when it is encrypted", { key: KEY, faults: FAULTY, steps: 120 }],
    ['with durability "remote"', { key: null, faults: {}, steps: 80, durability: "remote" }],
  ];
  const rounds = isLong ? 100 : 2;
  for (const [name, given] of cases)
    test(name, { timeout: 3_600_000 }, async () => {
      for (let round = 0; round < rounds; round++)
        await simulate({ ...given, seed: 100 + round + seedOffset });
    });
});
