/** Long chains of branches, each made from the one before, while the older ones go on. */
import { describe, expect, test } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { type ModelBranch, type ModelDatabase, StoreModel } from "./store-model.ts";
import { SMALL_STORE } from "./store-workload.ts";
import { outlineOf, verifyContents } from "./verify-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const FIRST_SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const SEEDS = Array.from({ length: isLong ? 200 : 6 }, (_, index) => FIRST_SEED + index);
const DEPTH = 30;
/** No checkpoint but those asked for: the chain stays in memory. */
const OPTIONS = { ...SMALL_STORE, checkpointBytes: 1 << 30 };

class Chain {
  private disk: SimulatedStorage;
  private store: Store;
  private readonly model = new StoreModel();
  private readonly random: Random;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.disk = new SimulatedStorage({ seed });
    this.store = openStore("", { ...OPTIONS, storage: this.disk });
    this.store.createDatabase("shop", { pageSize: 512 });
    this.model.createDatabase("shop");
    this.store
      .connect("shop")
      .exec("CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT, note TEXT)");
    this.database.commit(1, 1, new Map());
  }

  grow(): void {
    const { random, database } = this;
    const parent = database.living().at(-1)!;
    const name = `d${database.living().length}`;
    const old = random.chance(0.7) ? null : database.pickVersion(parent, random);
    const from = `shop/${parent.name}${old === null ? "" : `@${old.version}`}`;
    database.fork(name, parent.id, old?.point ?? database.head(parent));
    this.store.database("shop").createBranch(name, { from });
    this.write(database.branch(name));
    for (let count = random.integer(0, 3); count > 0; count--)
      this.write(random.pick(database.living()));
    if (random.chance(0.08)) this.store.checkpoint();
    if (random.chance(0.05)) this.losePower();
    if (random.chance(0.1)) this.reset(random.pick(database.living()));
  }

  verify(): void {
    expect(outlineOf(this.store)).toBe(this.model.outline());
    verifyContents(this.store, this.model, this.random, { randomRevisions: 60 });
  }

  losePower(): void {
    this.disk = this.disk.copyAfterCrash(this.random);
    this.store = openStore("", { ...OPTIONS, storage: this.disk });
  }

  checkpoint(): void {
    this.store.checkpoint();
  }

  private get database(): ModelDatabase {
    return this.model.databases[0]!;
  }

  private write(branch: ModelBranch): void {
    const { random, database } = this;
    const rows = new Map(database.rows(branch));
    using connection = this.store.connect(`shop/${branch.name}`);
    connection.exec("BEGIN");
    for (let count = random.integer(1, 4); count > 0; count--) {
      const id = random.integer(1, 40);
      const value = `${branch.name} at ${database.version} ${"x".repeat(random.integer(0, 60))}`;
      connection.prepare("INSERT OR REPLACE INTO item VALUES (?, ?, '')").run(id, value);
      rows.set(id, `${value}/`);
    }
    connection.exec("COMMIT");
    database.commit(branch.id, database.version + 1, rows);
  }

  private reset(branch: ModelBranch): void {
    const { random, database } = this;
    const other = random.pick(database.living());
    const { version, point } = database.pickVersion(other, random)!;
    this.store
      .database("shop")
      .branch(branch.name)
      .reset({ to: `shop/${other.name}@${version}` });
    database.reset(branch.id, point, null);
  }
}

describe("a chain of branches", () => {
  test.each(SEEDS)("reads as it was written at every depth, seed %i", (seed) => {
    const chain = new Chain(seed);
    for (let depth = 0; depth < DEPTH; depth++) chain.grow();
    chain.verify();
    chain.losePower();
    chain.verify();
    chain.checkpoint();
    chain.verify();
    chain.losePower();
    chain.verify();
  });
});
