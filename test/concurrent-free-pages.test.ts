/**
 * Free pages while concurrent transactions overlap all the time: what some free others use, without a conflict for it, so that a
 * file of constant content keeps its size.
 */
import { describe, expect, test } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { begin, expectSound, openPair, value } from "./concurrent-fixture.ts";
import { SMALL_STORE } from "./store-workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const CLIENTS = 5;
const ROWS = 60;

function pageCount(store: Store): number {
  return store.database("shop").branch().head.pageCount;
}

/** Replaces rows of its own table, of random sizes around a constant mean, a few in each transaction. */
class Client {
  readonly connection: StoreConnection;
  readonly #table: string;
  readonly #random: Random;

  constructor(store: Store, number: number, random: Random) {
    this.connection = store.connect("shop");
    this.#table = `t${number}`;
    this.#random = random;
    this.connection.exec(
      `CREATE TABLE ${this.#table}(id INTEGER PRIMARY KEY, key INTEGER UNIQUE, data BLOB)`,
    );
    for (let id = 0; id < ROWS; id++) this.#insert(id);
  }

  replace(): void {
    const id = this.#random.integer(0, ROWS - 1);
    this.connection.prepare(`DELETE FROM ${this.#table} WHERE id = ?`).run(id);
    this.#insert(id);
  }

  /** Leaves rows out, or puts them in again. */
  resize(): void {
    const first = this.#random.integer(0, ROWS - 10);
    const remove = this.connection.prepare(`DELETE FROM ${this.#table} WHERE id = ?`);
    for (let id = first; id < first + 10; id++) if (remove.run(id).changes === 0) this.#insert(id);
  }

  #insert(id: number): void {
    const random = this.#random;
    const size = random.chance(0.2) ? random.integer(0, 20_000) : random.integer(0, 800);
    this.connection
      .prepare(`INSERT INTO ${this.#table} VALUES (?, ?, ?)`)
      .run(id, random.integer(0, 2 ** 31), Buffer.from(random.bytes(size)));
  }
}

interface Load {
  readonly conflicts: string[];
  readonly commits: number;
  readonly pageCounts: readonly number[];
}

/** At least two transactions are under way at any time. */
function overlap(store: Store, clients: readonly Client[], random: Random, commits: number): Load {
  const load = { conflicts: [] as string[], commits: 0, pageCounts: [] as number[] };
  for (const { connection } of clients)
    connection.exec("BEGIN CONCURRENT; SELECT 1 FROM sqlite_schema");
  while (load.commits < commits) {
    const client = random.pick([...clients]);
    const { connection } = client;
    for (let count = random.integer(0, 4); count > 0; count--) client.replace();
    if (random.chance(0.1)) client.resize();
    try {
      connection.exec(random.chance(0.05) ? "ROLLBACK" : "COMMIT");
      load.commits++;
    } catch (error) {
      expect(error).toBeInstanceOf(SqliteError);
      load.conflicts.push(String(error));
    }
    connection.exec("BEGIN CONCURRENT; SELECT 1 FROM sqlite_schema");
    if (random.chance(0.01)) store.checkpoint();
    load.pageCounts.push(pageCount(store));
  }
  for (const { connection } of clients) connection.exec("COMMIT");
  return load;
}

test.each(Array.from({ length: isLong ? 40 : 3 }, (_, seed) => seed + seedOffset))(
  "a steady load of overlapping inserts and deletes does not make the file grow, seed %i",
  async (seed) => {
    const random = new Random(seed);
    const storage = new SimulatedStorage({ seed });
    const store = openStore("", { ...SMALL_STORE, transactionBytesMax: 1 << 22, storage });
    store.createDatabase("shop", { pageSize: random.pick([512, 1024, 4096]) });
    const clients = Array.from(
      { length: CLIENTS },
      (_, number) => new Client(store, number, random.fork()),
    );
    const before = pageCount(store);
    const load = overlap(store, clients, random, isLong ? 3000 : 250);
    // Each has its own table: what they share is the free pages.
    expect(load.conflicts).toEqual([]);
    expect(Math.max(...load.pageCounts)).toBeLessThan(1.6 * before);
    const check = store.connect("shop");
    expect(check.pragma("integrity_check", { simple: true })).toBe("ok");
    expect((await store.check()).problems).toEqual([]);
    const content = contentOf(check);
    const recovered = openStore("", { ...SMALL_STORE, storage: storage.copyAfterCrash(random) });
    expect(contentOf(recovered.connect("shop"))).toEqual(content);
    recovered.close();
    store.close();
  },
);

function contentOf(connection: StoreConnection): unknown[] {
  return Array.from({ length: CLIENTS }, (_, number) =>
    connection.prepare(`SELECT id, key, hex(data) FROM t${number} ORDER BY id`).raw().all(),
  );
}

describe("free pages", () => {
  const FREE = "SELECT freelist_count FROM pragma_freelist_count";
  /** Of the head. */
  function freeCount(store: Store): number {
    using connection = store.connect("shop");
    return Number(value(connection, FREE));
  }

  function fill(connection: StoreConnection, table: string, first: number, count: number): void {
    connection.exec(
      `WITH RECURSIVE n(i) AS (SELECT ${first} UNION ALL SELECT i + 1 FROM n WHERE i < ${first + count - 1}) INSERT INTO ${table} SELECT i, i, printf('%03000d', i) FROM n`,
    );
  }

  /** A transaction that goes on, and was shown no free page because there was none: those that begin now are shown none either. */
  function hold(store: Store): StoreConnection {
    expect(freeCount(store)).toBe(0);
    const holder = store.connect("shop");
    begin(holder);
    value(holder, "SELECT 1 FROM sqlite_schema");
    return holder;
  }

  test("of those that are under way each takes others, and the file does not grow", async () => {
    const { store, one, two } = openPair();
    const holder = hold(store);
    fill(one, "b", 1000, 60);
    one.exec("DELETE FROM b WHERE id >= 1000");
    const free = freeCount(store);
    const before = pageCount(store);
    expect(free).toBeGreaterThan(55);
    begin(two, one);
    fill(two, "a", 2000, 12);
    fill(one, "b", 2000, 12);
    expect([value(one, FREE), value(two, FREE)]).toEqual([0, 0]);
    two.exec("COMMIT");
    expect(pageCount(store)).toBe(before);
    one.exec("COMMIT");
    expect(pageCount(store)).toBe(before);
    expect(freeCount(store)).toBeLessThanOrEqual(free - 20);
    holder.exec("COMMIT");
    await expectSound(store);
  });

  test("more new pages than free ones: all free ones are used, the file grows by the others", async () => {
    const { store, one, two } = openPair();
    hold(store);
    fill(one, "b", 1000, 6);
    one.exec("DELETE FROM b WHERE id >= 1000");
    const free = freeCount(store);
    const before = pageCount(store);
    begin(two);
    fill(two, "a", 2000, 30);
    two.exec("COMMIT");
    expect(freeCount(store)).toBe(0);
    expect(pageCount(store)).toBeGreaterThan(before);
    expect(pageCount(store)).toBeLessThanOrEqual(before + 36 - free);
    await expectSound(store);
  });

  test("one that began alone uses the freelist while others free pages and use theirs", async () => {
    const { store, one, two } = openPair();
    const three = store.connect("shop");
    one.exec("CREATE TABLE c(id INTEGER PRIMARY KEY, v, note)");
    fill(one, "b", 1000, 40);
    fill(two, "c", 1000, 40);
    one.exec("DELETE FROM b WHERE id >= 1000");
    begin(one);
    fill(one, "b", 3000, 10); // Takes free pages that all can see.
    begin(two, three);
    two.exec("DELETE FROM c WHERE id >= 1010; COMMIT"); // Puts pages before them.
    fill(three, "a", 4000, 10);
    const before = pageCount(store);
    three.exec("COMMIT"); // Takes of these.
    expect(pageCount(store)).toBe(before);
    begin(three);
    fill(three, "a", 5000, 40); // More than these: the file grows.
    three.exec("COMMIT");
    expect(pageCount(store)).toBeGreaterThan(before);
    one.exec("COMMIT");
    await expectSound(store);
  });

  test("one that began alone and has not used the freelist keeps what others left of it", async () => {
    const { store, one, two } = openPair();
    fill(one, "b", 1000, 40);
    one.exec("DELETE FROM b WHERE id >= 1000");
    const free = freeCount(store);
    begin(one, two);
    one.exec("UPDATE a SET v = v + 1 WHERE id = 1");
    two.exec("UPDATE b SET v = v + 1 WHERE id = 400");
    fill(two, "b", 3000, 10);
    two.exec("COMMIT");
    one.exec("COMMIT");
    expect(freeCount(store)).toBe(free); // The first trunk was shown to it: not taken while it ran.
    begin(one, two);
    value(one, "SELECT 1 FROM sqlite_schema");
    value(two, "SELECT 1 FROM sqlite_schema");
    one.exec("COMMIT");
    fill(two, "b", 4000, 10);
    two.exec("COMMIT");
    expect(freeCount(store)).toBeLessThan(free);
    await expectSound(store);
  });

  test("with a plain writer that takes the same free pages it is in conflict", async () => {
    const { store, one, two } = openPair();
    fill(one, "b", 1000, 40);
    one.exec("DELETE FROM b WHERE id >= 1000");
    begin(one);
    fill(one, "b", 3000, 5);
    fill(two, "a", 3000, 5);
    expect(() => one.exec("COMMIT")).toThrow(SqliteError);
    await expectSound(store);
  });

  test("a reader of an earlier snapshot goes on reading what the pages held", async () => {
    const { store, one, two } = openPair();
    hold(store);
    fill(one, "b", 1000, 40);
    const reader = store.connect("shop", { readonly: true });
    reader.exec("BEGIN");
    const read = (): unknown =>
      value(reader, "SELECT sum(length(note)) || max(note) FROM b WHERE id >= 1000");
    const before = read();
    const pages = pageCount(store);
    one.exec("DELETE FROM b WHERE id >= 1000");
    begin(two);
    fill(two, "a", 4000, 30);
    two.exec("COMMIT");
    expect(pageCount(store)).toBe(pages);
    reader.pragma("shrink_memory");
    expect(read()).toBe(before);
    await expectSound(store);
  });

  test("statements that are open at COMMIT read on, and the transaction's own new pages", async () => {
    const { store, one, two } = openPair();
    hold(store);
    fill(one, "b", 1000, 40);
    one.exec("DELETE FROM b WHERE id >= 1000");
    const pages = pageCount(store);
    begin(two);
    fill(two, "a", 4000, 30);
    two.unsafeMode(true);
    const rows = two.prepare("SELECT id FROM a WHERE id >= 4000").pluck().iterate();
    expect(rows.next().value).toBe(4000);
    two.exec("COMMIT");
    expect(pageCount(store)).toBe(pages);
    expect([...rows]).toEqual(Array.from({ length: 29 }, (_, index) => 4001 + index));
    await expectSound(store);
  });

  test("a transaction that makes a table takes none: root pages stand in the schema", async () => {
    const { store, one, two } = openPair();
    hold(store);
    fill(one, "b", 1000, 40);
    one.exec("DELETE FROM b WHERE id >= 1000");
    const free = freeCount(store);
    begin(two);
    two.exec("CREATE TABLE c(x)");
    two.exec("COMMIT");
    expect(freeCount(store)).toBe(free);
    await expectSound(store);
  });
});
