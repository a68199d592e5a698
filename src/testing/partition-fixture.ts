/** A store with partitions on a simulated disk, and all that can be read of one of its databases. */
import { randomBytes } from "node:crypto";
import { openStore, type Store } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import type { Random } from "./random.ts";
import type { SimulatedStorage } from "./simulated-storage.ts";

export interface PartitionFixture {
  readonly storage: SimulatedStorage;
  readonly key: string | null;
  /** Milliseconds since 1970. */
  readonly clock: { now: number };
}

export function openPartitioned(
  { storage, key, clock }: PartitionFixture,
  more: StoreOptions = {},
): Store {
  return openStore("sim", {
    backend: "memory",
    storage,
    environment: {},
    now: () => clock.now,
    gc: "off",
    // So that there are many chunks, some with pages of several databases.
    chunkPages: 4,
    cacheBytesMax: 64 * 1024,
    logSegmentBytes: 64 * 1024,
    ...(key === null ? {} : { key }),
    ...more,
  });
}

/** Commits, checkpoints, branches, tags, a reset and a deleted branch. Returns the ids of its transactions. */
export async function fillDatabase(
  store: Store,
  name: string,
  { random, clock, partition }: { random: Random; clock: { now: number }; partition: number },
): Promise<string[]> {
  const database = store.createDatabase(name, { pageSize: 512, partition });
  const write = (revision: string, count: number): void => {
    using connection = store.connect(revision);
    connection.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, value)");
    for (let commit = 0; commit < count; commit++) {
      clock.now += 1000;
      const id = random.integer(1, 12);
      const value = random.bytes(random.integer(10, 400));
      connection.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)").run(id, value);
    }
  };
  write(name, 4);
  store.checkpoint();
  write(name, 5);
  database.createTag("first");
  const dev = database.createBranch("dev");
  write(`${name}/dev`, 3);
  store.checkpoint();
  database.createBranch("gone", { from: `${name}/dev@${store.database(name).version - 1}` });
  write(`${name}/gone`, 3);
  write(`${name}/dev`, 2);
  database.branch("gone").delete();
  store.checkpoint();
  write(name, 2);
  database.branch().reset({ to: `${name}@first` });
  write(name, 2);
  database.setRetention({ everyCommitMs: 40 * 86_400_000 });
  dev.protect();
  dev.setRetention({ hourlyMs: null });
  const ids: string[] = [];
  for (let count = 0; count < 3; count++) {
    const id = randomBytes(16).toString("hex");
    await store.transact(
      `${name}/dev`,
      async (transaction) => {
        await transaction.run("INSERT OR REPLACE INTO t VALUES (?, 'transaction')", [count + 100]);
      },
      { id },
    );
    ids.push(id);
  }
  // In the log only.
  write(name, 2);
  return ids;
}

/** Everything that can be read of the database, by revision. */
export function contentOf(store: Store, name: string, ids: readonly string[] = []): object {
  const database = store.database(name);
  const content: Record<string, unknown> = {};
  const read = (revision: string): void => {
    using connection = store.connect(revision, { readonly: true });
    try {
      content[revision] = connection
        .prepare("SELECT id, hex(value) FROM t ORDER BY id")
        .raw()
        .all()
        .join(" ");
    } catch (error) {
      content[revision] = String(error);
    }
  };
  for (const branch of database.branches()) {
    const revision = `${name}/${branch.name}`;
    const log = branch.log();
    content[`log of ${revision}`] = JSON.stringify(log);
    content[`state of ${revision}`] = JSON.stringify([branch, branch.retention]);
    read(revision);
    for (const { version } of log) read(`${revision}@${version}`);
  }
  // What main was before the reset.
  for (let version = 1; version <= database.version; version++)
    try {
      read(`${name}@${version}`);
    } catch (error) {
      content[`${name}@${version}`] = String(error);
    }
  for (const tag of database.tags()) {
    content[`tag ${tag.name}`] = JSON.stringify(tag);
    read(`${name}@${tag.name}`);
  }
  content["state"] = JSON.stringify([database, database.retention]);
  for (const id of ids) content[`outcome of ${id}`] = JSON.stringify(store.outcome(id));
  return content;
}
