/**
 * Stores that share a place in object storage, for tests: a writer that does random work (store-workload.ts), and others that
 * follow it, take it over and restore it. Every state that the writer had is kept, so that what the others see can be judged.
 *
 *   history: what the store held after each step, oldest first       acknowledged: the newest that object storage has for sure
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { StoreError } from "../src/errors.ts";
import { restoreStore } from "../src/store/restore-store.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { RemoteOptions } from "../src/store/remote-options.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import type { RemoteConnection } from "../src/remote/remote-connection.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedBucket } from "../src/testing/simulated-object-store.ts";
import {
  type ClientFaults,
  SimulatedRemoteClient,
} from "../src/testing/simulated-remote-client.ts";
import type { StoreModel } from "./store-model.ts";
import { outlineOf, verifyContents } from "./verify-store.ts";

/** Nothing goes up by itself: tests say when. */
const NEVER_MS = 1_000_000_000;

export interface Place {
  readonly url: string;
  /** A new connection, as of another machine. */
  connect(): RemoteConnection;
  options(connect: () => RemoteConnection): Omit<RemoteOptions, "url">;
}

/** Places in memory. */
export class SimulatedPlace implements Place {
  readonly url = "s3://simulated/store";
  readonly bucket: SimulatedBucket = new SimulatedBucket();
  faults: ClientFaults = {};
  private count = 0;
  private readonly seed: number;

  constructor(seed: number, now: () => number) {
    this.seed = seed;
    this.bucket.now = now;
  }

  connect(): SimulatedRemoteClient {
    return new SimulatedRemoteClient(this.bucket, {
      seed: this.seed * 1000 + ++this.count,
      faults: this.faults,
    });
  }

  options(connect: () => RemoteConnection): Omit<RemoteOptions, "url"> {
    return { connect, flushIntervalMs: NEVER_MS, graceMs: 600_000 };
  }
}

/** Which state a store shows, by its outline; the newest of those that look the same. Fails if it never was like that. */
export function findState(store: Store, history: readonly StoreModel[], from: number): number {
  // Versions too: after a reset a branch can look as it did before.
  const versions = store.databases().map(({ version }) => version);
  const outline = `${outlineOf(store)} ${versions.join()}`;
  const index = history.findLastIndex((model) => describeState(model) === outline);
  if (index < from)
    expect(
      { shown: outline, at: index },
      `a state from ${from} on, of ${history.length}; the newest: ${describeState(history.at(-1)!)}; at ${from}: ${describeState(history[from]!)}`,
    ).toEqual("one of the writer's");
  return index;
}

function describeState(model: StoreModel): string {
  const sorted = model.living().sort((left, right) => (left.name < right.name ? -1 : 1));
  return `${model.outline()} ${sorted.map(({ version }) => version).join()}`;
}

export class Machines implements Disposable {
  readonly place: Place;
  readonly random: Random;
  readonly now: () => number;
  /** All that it may be: which one the place has now depends on what was uploaded. */
  readonly keys: () => readonly (string | null)[];
  private readonly directories: string[] = [];

  constructor(options: {
    place: Place;
    random: Random;
    now: () => number;
    keys: () => readonly (string | null)[];
  }) {
    this.place = options.place;
    this.random = options.random;
    this.now = options.now;
    this.keys = options.keys;
  }

  directory(): string {
    const directory = mkdtempSync(join(tmpdir(), "bough-remote-"));
    this.directories.push(directory);
    return directory;
  }

  [Symbol.dispose](): void {
    for (const directory of this.directories) rmSync(directory, { recursive: true, force: true });
  }

  follow(
    directory: string = this.directory(),
    connect: () => RemoteConnection = () => this.place.connect(),
  ): Store {
    const remote = { url: this.place.url, ...this.place.options(connect) };
    return this.withKey((key) =>
      openStore(this.place.url, {
        ...key,
        mode: "follow",
        directory,
        pollIntervalMs: NEVER_MS,
        remote,
      }),
    );
  }

  takeOver(
    directory: string = this.directory(),
    connect: () => RemoteConnection = () => this.place.connect(),
    options: StoreOptions = {},
  ): Store {
    const remote = { url: this.place.url, ...this.place.options(connect) };
    return this.withKey((key) =>
      openStore(this.place.url, { ...key, ...options, mode: "write", directory, remote }),
    );
  }

  async restore(): Promise<Store> {
    const remote = this.place.options(() => this.place.connect());
    for (const key of this.keys()) {
      const directory = this.directory();
      const common = { now: this.now, ...(key === null ? {} : { key }) };
      try {
        const { check } = await restoreStore(this.place.url, directory, { ...common, remote });
        expect(check?.problems, "problems of a restored store").toEqual([]);
        return openStore(directory, { ...common, create: false });
      } catch (error) {
        if (!isWrongKey(error)) throw error;
      }
    }
    throw new Error("None of the keys opens the store");
  }

  private withKey(open: (options: StoreOptions) => Store): Store {
    for (const key of this.keys())
      try {
        return open({ now: this.now, ...(key === null ? {} : { key }) });
      } catch (error) {
        if (!isWrongKey(error)) throw error;
      }
    throw new Error("None of the keys opens the store");
  }

  /** What the store shows is what the writer had, as of `from` or later; all that it says is true. */
  verify(store: Store, history: readonly StoreModel[], from: number): number {
    const index = findState(store, history, from);
    const options = { integrityShare: 0.1, randomRevisions: 0 };
    verifyContents(store, history[index]!, this.random, options);
    return index;
  }
}

function isWrongKey(error: unknown): boolean {
  return error instanceof StoreError && error.code === "KEY_WRONG";
}
