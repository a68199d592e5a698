/** What an awaited call tells of is durable, also when another connection has committed it: no crash takes back what was read. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { LocalAdminStore } from "../src/server/admin/local-admin-store.ts";
import type { AsyncConnection } from "../src/sqlite/async-connection.ts";
import { SingleStore } from "../src/store/single-store.ts";
import { openStore, openStoreAsync, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { carryError } from "../src/threads/carried-error.ts";
import type { CallContext } from "../src/threads/served.ts";
import { type DatabaseInfo, ServedStore } from "../src/threads/served-store.ts";

interface World {
  readonly storage: SimulatedStorage;
  readonly store: Store;
  readonly writer: AsyncConnection;
  readonly reader: AsyncConnection;
  /** On another database, with this one as "shop". */
  readonly attached: AsyncConnection;
}

async function open(options: StoreOptions = {}): Promise<World> {
  const storage = new SimulatedStorage();
  const store = openStore("store", { backend: "memory", storage, ...options });
  store.createDatabase("shop");
  using setup = store.connect("shop");
  setup.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  setup.exec("INSERT INTO item VALUES(1, 'old')");
  const [writer, reader] = [await store.open("shop"), await store.open("shop")];
  await (await reader.prepare("SELECT * FROM item")).all();
  store.createDatabase("other");
  const attached = await store.open("other");
  await attached.exec("ATTACH 'shop' AS shop");
  return { storage, store, writer, reader, attached };
}

/** Begins to write row 7, and returns when others see it; resolves `done` when it is durable. */
async function write({ store, writer }: World): Promise<{ done: Promise<void> }> {
  const { version } = store.database("shop").branch().head;
  const done = writer.exec("INSERT INTO item VALUES(7, 'new')");
  done.catch(() => {}); // Each test says what it expects.
  while (store.database("shop").branch().head.version === version) await Promise.resolve();
  return { done };
}

/** Whether row 7 would be there if the machine lost its power now. */
function isDurable({ storage }: World): boolean {
  const disk = storage.copyAfterCrash(new Random(1));
  using store = openStore("store", { backend: "memory", storage: disk });
  using connection = store.connect("shop");
  return connection.prepare("SELECT 1 FROM item WHERE id = 7").get() !== undefined;
}

/** The names that it was told. */
type Reading = (world: World) => Promise<unknown>;

const SQL = "SELECT name FROM item WHERE id > 1";

const READINGS: readonly (readonly [string, Reading])[] = [
  ["get", async ({ reader }) => await (await reader.prepare(SQL)).pluck().get()],
  ["all", async ({ reader }) => (await (await reader.prepare(SQL)).pluck().all())[0]],
  ["values", async ({ reader }) => (await (await reader.prepare(SQL)).values())[0]?.[0]],
  [
    "an iterator's first row",
    async ({ reader }) => {
      const rows = (await reader.prepare(SQL)).pluck().iterate();
      const { value } = await rows.next();
      return value;
    },
  ],
  [
    "an iterator's row that was read ahead by a call that nobody awaits",
    async ({ reader }) => {
      const sql = `SELECT 'a' UNION ALL SELECT 'b' UNION ALL ${SQL}`;
      const rows = (await reader.prepare(sql)).pluck().iterate();
      const before = [rows.next(), rows.next()];
      for (const each of before) each.catch(() => {});
      for (let turn = 0; turn < 100; turn++) await Promise.resolve();
      const { value } = await rows.next();
      return value;
    },
  ],
  [
    "a transaction that only read",
    async ({ reader }) =>
      await reader.transaction(async () => await (await reader.prepare(SQL)).pluck().get(), {
        mode: "concurrent",
      }),
  ],
  [
    "COMMIT as a statement",
    async ({ reader }) => {
      await reader.exec("BEGIN");
      const name = await (await reader.prepare(SQL)).pluck().get();
      await reader.exec("COMMIT");
      return name;
    },
  ],
  [
    "store.transact that only read",
    async ({ store }) =>
      await store.transact("shop", async (tx) => (await tx.get<{ name: string }>(SQL))?.name),
  ],
  [
    "what the function of store.transact throws",
    async ({ store }) => {
      const failing = store.transact("shop", async (tx) => {
        throw new Error((await tx.get<{ name: string }>(SQL))?.name);
      });
      return await failing.catch((error: unknown) => (error as Error).message);
    },
  ],
  [
    "a constraint that refuses a row",
    async ({ reader }) => {
      const failed: unknown = await reader
        .exec("INSERT INTO item VALUES(7, 'other')")
        .catch((error: unknown) => error);
      expect(failed).toMatchObject({ code: "SQLITE_CONSTRAINT_PRIMARYKEY" });
      return "new";
    },
  ],
  [
    "a fixed version",
    async ({ store }) => {
      const { version } = store.database("shop").branch().head;
      const connection = await store.open(`shop@${version}`);
      return await (await connection.prepare(SQL)).pluck().get();
    },
  ],
  [
    "an attached branch",
    async ({ attached }) => {
      const statement = await attached.prepare("SELECT name FROM shop.item WHERE id > 1");
      return await statement.pluck().get();
    },
  ],
];

test.each(READINGS)("durable once it is told: %s", async (_, read) => {
  const world = await open();
  const { done } = await write(world);
  expect(isDurable(world)).toBe(false);
  expect(await read(world)).toBe("new");
  expect(isDurable(world)).toBe(true);
  await done;
  await world.store.closeAsync();
});

/** Whoever asks for heads, logs, sizes or files is told of commits, too. */
const TELLINGS: readonly (readonly [string, (store: Store) => Promise<number>])[] = [
  [
    "databaseFacts of the admin API",
    async (store) => (await new LocalAdminStore(store).databaseFacts("shop")).version,
  ],
  [
    "branchFacts of the admin API",
    async (store) => (await new LocalAdminStore(store).branchFacts("shop", "main")).head.version,
  ],
  [
    "branchLog of the admin API",
    async (store) => (await new LocalAdminStore(store).branchLog("shop", "main", {}))[0]!.version,
  ],
  [
    "a file of the admin API",
    async (store) => {
      const file = await new LocalAdminStore(store).exportRevision("shop");
      file.close();
      return file.version;
    },
  ],
  [
    "databaseInfo of a store with threads",
    async (store) => {
      if (!(store instanceof SingleStore)) throw new TypeError("A store of one partition");
      const context: CallContext = {
        limits: {},
        transfer: [],
        event: () => {},
        carry: carryError,
        keepSignal: () => () => {},
        hasBlobs: false,
      };
      const info = new ServedStore(store, () => {}).answer(["databaseInfo", 1], context);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      return ((await info) as DatabaseInfo).version;
    },
  ],
];

test.each(TELLINGS)("durable once it is told: %s", async (_, tell) => {
  const world = await open();
  const { done } = await write(world);
  expect(isDurable(world)).toBe(false);
  expect(await tell(world.store)).toBe(3);
  expect(isDurable(world)).toBe(true);
  await done;
  await world.store.closeAsync();
});

test("a statement within a transaction does not wait, the end of the transaction does", async () => {
  const world = await open();
  const statement = await world.reader.prepare(SQL);
  const { done } = await write(world);
  await world.reader.transaction(async () => {
    expect(await statement.pluck().get()).toBe("new");
    expect(isDurable(world)).toBe(false);
  });
  expect(isDurable(world)).toBe(true);
  await done;
  await world.store.closeAsync();
});

test.each(["normal", "off"] as const)("durability %s: a read waits for nothing", async (level) => {
  const world = await open({ durability: level });
  const statement = await world.reader.prepare(SQL);
  await world.writer.exec("INSERT INTO item VALUES(7, 'new')");
  world.storage.clearTrace();
  expect(await statement.pluck().get()).toBe("new");
  expect(world.storage.countOf("write", "sync")).toBe(0);
  await world.store.closeAsync();
});

test("PRAGMA synchronous decides for one connection", async () => {
  const world = await open({ durability: "off" });
  await world.reader.pragma("synchronous = FULL");
  world.store.checkpoint();
  const statement = await world.reader.prepare(SQL);
  await world.writer.exec("INSERT INTO item VALUES(7, 'new')");
  expect(isDurable(world)).toBe(false);
  expect(await statement.pluck().get()).toBe("new");
  expect(isDurable(world)).toBe(true);
  await world.store.closeAsync();
});

describe("what it costs", () => {
  /** Writes and syncs of the log while a row is committed and `readers` read it. */
  async function operations(readers: number): Promise<number> {
    const world = await open();
    const connections = await Promise.all(
      Array.from({ length: readers }, async () => {
        const connection = await world.store.open("shop");
        return await connection.prepare(SQL);
      }),
    );
    world.storage.clearTrace();
    const { done } = await write(world);
    const read = connections.map(async (each) => await each.pluck().get());
    expect(await Promise.all(read)).toEqual(connections.map(() => "new"));
    await done;
    const count = world.storage.countOf("write", "sync");
    await world.store.closeAsync();
    return count;
  }

  test("readers wait for the flush that is on its way, and cause none", async () => {
    const alone = await operations(0);
    expect(alone).toBeGreaterThan(0);
    expect(await operations(10)).toBe(alone);
  });

  test("what is durable is read without touching the log", async () => {
    const world = await open();
    const { done } = await write(world);
    await done;
    world.storage.clearTrace();
    expect(await (await world.reader.prepare(SQL)).pluck().get()).toBe("new");
    expect(world.storage.countOf("write", "sync")).toBe(0);
    await world.store.closeAsync();
  });
});

test("a flush that fails: who has seen the commit is not told of it, nor anyone later", async () => {
  const world = await open();
  const { storage, store, reader } = world;
  const statement = (await reader.prepare<[], string>(SQL)).pluck();
  const other = store.database("shop").createBranch("other");
  const elsewhere = await store.open(other.revision);
  storage.failAt({ kinds: ["write", "sync"], count: 1, systemCode: "EIO", forever: true });
  const { done } = await write(world);
  const reading = statement.get();
  await expect(done).rejects.toMatchObject({ code: "IO" });
  await expect(reading).rejects.toMatchObject({ code: "IO" });
  await expect(statement.get()).rejects.toMatchObject({ code: "STORE_FAILED" });
  await expect(
    store.transact("shop", async (tx) => await tx.get("SELECT 1 FROM item")),
  ).rejects.toMatchObject({ code: "STORE_FAILED" });
  // What was durable before is still read.
  expect(await (await elsewhere.prepare("SELECT name FROM item")).pluck().all()).toEqual(["old"]);
});

test('durability "remote": a read waits until what it saw is in object storage', async () => {
  const directory = mkdtempSync(join(tmpdir(), "bough-durable-reads-"));
  try {
    const url = pathToFileURL(join(directory, "bucket")).href;
    // Nothing goes up by itself.
    const remote = { url, flushIntervalMs: 2 ** 30 };
    const store = await openStoreAsync(join(directory, "store"), { remote });
    store.createDatabase("shop");
    const writer = await store.open("shop");
    const reader = await store.open("shop", { durability: "remote" });
    await writer.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
    await writer.exec("INSERT INTO item VALUES(7, 'new')"); // Durable here.
    expect(await (await reader.prepare(SQL)).pluck().get()).toBe("new");
    const elsewhere = await openStoreAsync(url);
    const connection = await elsewhere.open("shop");
    expect(await (await connection.prepare(SQL)).pluck().get()).toBe("new");
    await elsewhere.closeAsync();
    await store.closeAsync();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
