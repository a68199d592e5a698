/**
 * Garbage collection beside everything else, in any order: commits, large transactions, rollbacks, forks, resets, deletes,
 * imports, readers and pinned connections, checkpoints in slices, expiry, crashes. The pages of every revision are hashed
 * when it is made. After each step some are read again: they are the same, or have expired and say so; and what is read
 * through connections that are open is the same whatever has expired. Found and shrunk by fast-check.
 */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { newPageWriter } from "../checkpoint/store-state.ts";
import { indexPendingPages } from "../checkpoint/index-pending.ts";
import { PagePlaces } from "../page/page-places.ts";
import type { PageHolder } from "../transaction/tracer.ts";
import { expireStore } from "../store/expire.ts";
import { openStore, type Store } from "../store/store.ts";
import type { StoreConnection } from "../store/store-connection.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const LIMIT_MS = isLong ? 600_000 : 12_000;
const HOUR_MS = 3_600_000;
const ROWS = 60;

const KINDS = [
  "commit",
  "commitOld",
  "commitMuch",
  "rollBack",
  "fork",
  "reset",
  "delete",
  "tag",
  "pin",
  "hold",
  "release",
  "stage",
  "forgetStaged",
  "checkpoint",
  "checkpointSlice",
  "begin",
  "slice",
  "slices",
  "collect",
  "expire",
  "later",
  "reopen",
  "crash",
] as const;
type Kind = (typeof KINDS)[number];

interface Step {
  readonly kind: Kind;
  readonly seed: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...KINDS) },
    {
      weight: 5,
      arbitrary: fc.constantFrom<Kind>(
        "commit",
        "commitMuch",
        "slice",
        "slices",
        "checkpointSlice",
      ),
    },
    { weight: 2, arbitrary: fc.constantFrom<Kind>("begin", "expire", "later", "commitOld") },
    // Content that dies and comes back while a cycle runs.
    { weight: 4, arbitrary: fc.constantFrom<Kind>("stage", "forgetStaged", "begin", "slice") },
  ),
  seed: fc.nat(),
});

interface Recorded {
  readonly revision: string;
  readonly hash: string;
}

interface Pinned extends Recorded {
  readonly connection: StoreConnection;
}

class Session {
  private disk = new SimulatedStorage();
  private clock = 1_000_000_000_000;
  private store: Store;
  private readonly key: string | null;
  private branches = ["main"];
  private heads = new Map<string, string>();
  private recorded: Recorded[] = [];
  private tags = new Map<string, string>();
  private pinned: Pinned[] = [];
  private staged: { places: PagePlaces; pages: Map<number, string>; holder: PageHolder } | null =
    null;
  private hasExpired = false;
  private names = 0;
  readonly done: string[] = [];

  constructor(isEncrypted: boolean) {
    this.key = isEncrypted ? "cd".repeat(32) : null;
    this.store = this.open();
    this.store.createDatabase("shop", { pageSize: 512 });
    using connection = this.store.connect("shop");
    connection.exec(
      "CREATE TABLE t(id INTEGER PRIMARY KEY, value); CREATE TABLE big(id INTEGER PRIMARY KEY, value)",
    );
    this.record("main", connection);
  }

  private open(): Store {
    const options: StoreOptions = {
      backend: "memory",
      storage: this.disk,
      logSegmentBytes: 32 * 1024,
      checkpointBytes: 1 << 30,
      checkpointIntervalMs: 1e12,
      transactionBytesMax: 4 * 512,
      cacheBytesMax: 16 * 1024,
      chunkPages: 4,
      gc: "off",
      now: () => (this.clock += 10),
      ...(this.key === null ? {} : { key: this.key }),
    };
    return openStore("", options);
  }

  async run({ kind, seed }: Step): Promise<void> {
    const random = new Random(seed);
    this.done.push(kind);
    await this[kind](random);
    if (random.chance(0.2)) this.verify(random, 3);
    else this.expectStaged();
  }

  /** Everything, and what stays when all is collected. */
  async end(): Promise<void> {
    this.verify(new Random(1), 0);
    this.hasExpired = true;
    this.store.gc();
    for (const recorded of this.recorded) this.expectSame(recorded);
    this.verify(new Random(2), 0);
    expect(await this.store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    for (const { connection } of this.pinned.splice(0)) connection.close();
    this.store.close();
  }

  private record(branch: string, connection: StoreConnection): void {
    const version = this.store.database("shop").branch(branch).head.version;
    const hash = hashOf(connection);
    this.heads.set(branch, hash);
    const revision = `shop/${branch}@${version}`;
    this.recorded = this.recorded.filter((other) => other.revision !== revision);
    this.recorded.push({ revision, hash });
  }

  private verify(random: Random, count: number): void {
    for (const [branch, hash] of this.heads) {
      using connection = this.store.connect(`shop/${branch}`);
      expect(hashOf(connection), `head of ${branch}`).toBe(hash);
    }
    for (const [tag, hash] of this.tags) {
      using connection = this.store.connect(`shop@${tag}`);
      expect(hashOf(connection), `tag ${tag}`).toBe(hash);
    }
    for (const { connection, hash, revision } of this.pinned)
      expect(hashOf(connection), `pinned ${revision}`).toBe(hash);
    for (let index = 0; index < count && this.recorded.length > 0; index++)
      this.expectSame(random.pick(this.recorded));
    this.expectStaged();
  }

  private expectSame({ revision, hash }: Recorded): void {
    let connection: StoreConnection;
    try {
      connection = this.store.connect(revision);
    } catch (error) {
      const isGone =
        error instanceof StoreError &&
        ((error.code === "VERSION_EXPIRED" && this.hasExpired) ||
          error.code === "BRANCH_NOT_FOUND");
      if (!isGone) throw error;
      this.recorded = this.recorded.filter((other) => other.revision !== revision);
      return;
    }
    expect(hashOf(connection), revision).toBe(hash);
    connection.close();
  }

  private write(random: Random, sql: (connection: StoreConnection) => void): void {
    const branch = random.pick(this.branches);
    using connection = this.store.connect(`shop/${branch}`);
    connection.pragma("cache_size=3");
    sql(connection);
    this.record(branch, connection);
  }

  private commit(random: Random): void {
    const id = random.integer(1, ROWS);
    const value = Buffer.from(random.bytes(random.integer(1, 150))).toString("hex");
    this.write(random, (connection) => {
      connection.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)").run(id, value);
    });
  }

  /** Content that the store has, or had: deduplication finds it. */
  private commitOld(random: Random): void {
    const seed = random.integer(1, 4);
    this.write(random, (connection) => {
      connection.exec("BEGIN; DELETE FROM big; DELETE FROM t");
      const insert = connection.prepare("INSERT INTO big VALUES (?, ?)");
      const content = new Random(seed);
      for (let id = 1; id <= 12; id++)
        insert.run(id, Buffer.from(content.bytes(200)).toString("hex"));
      connection.exec("COMMIT");
    });
  }

  private commitMuch(random: Random): void {
    this.write(random, (connection) => {
      connection.exec("BEGIN");
      const insert = connection.prepare("INSERT OR REPLACE INTO big VALUES (?, ?)");
      for (let count = random.integer(5, 20); count > 0; count--)
        insert.run(random.integer(1, 30), Buffer.from(random.bytes(220)).toString("hex"));
      connection.exec("COMMIT");
    });
  }

  private rollBack(random: Random): void {
    using connection = this.store.connect(`shop/${random.pick(this.branches)}`);
    connection.pragma("cache_size=3");
    connection.exec("BEGIN");
    const insert = connection.prepare("INSERT OR REPLACE INTO big VALUES (?, ?)");
    for (let id = 1; id <= 15; id++) insert.run(id, Buffer.from(random.bytes(220)).toString("hex"));
    connection.exec("ROLLBACK");
  }

  /** A revision that is still there. */
  private source(random: Random): Recorded {
    const recorded = this.recorded.length > 0 ? random.pick(this.recorded) : null;
    if (recorded !== null) this.expectSame(recorded);
    if (recorded !== null && this.recorded.includes(recorded)) return recorded;
    return { revision: "shop/main", hash: this.heads.get("main")! };
  }

  private fork(random: Random): void {
    if (this.branches.length > 5) return;
    const { revision, hash } = this.source(random);
    const name = `b${++this.names}`;
    this.store.database("shop").createBranch(name, { from: revision });
    this.branches.push(name);
    this.heads.set(name, hash);
  }

  private reset(random: Random): void {
    const { revision, hash } = this.source(random);
    const branch = random.pick(this.branches);
    this.store.database("shop").branch(branch).reset({ to: revision });
    this.heads.set(branch, hash);
    this.recorded = this.recorded.filter((other) => !other.revision.startsWith(`shop/${branch}@`));
  }

  private delete(random: Random): void {
    const branch = random.pick(this.branches);
    if (branch === "main") return;
    try {
      this.store.database("shop").branch(branch).delete();
    } catch (error) {
      if (error instanceof StoreError && error.code === "BRANCH_HAS_CHILDREN") return;
      throw error;
    }
    this.branches = this.branches.filter((name) => name !== branch);
    this.heads.delete(branch);
    if (random.chance(0.3)) {
      this.store.database("shop").undeleteBranch(branch);
      this.branches.push(branch);
      using connection = this.store.connect(`shop/${branch}`);
      this.heads.set(branch, hashOf(connection));
    }
  }

  private tag(random: Random): void {
    const [first] = this.tags.keys();
    if (first !== undefined && this.tags.size > 1) {
      this.store.database("shop").deleteTag(first);
      this.tags.delete(first);
    }
    const { revision, hash } = this.source(random);
    const name = `t${++this.names}`;
    this.store.database("shop").createTag(name, { at: revision });
    this.tags.set(name, hash);
  }

  /** A connection on a fixed version: it reads that for as long as it is open. */
  private pin(random: Random): void {
    if (this.pinned.length > 3) return;
    const { revision, hash } = this.source(random);
    if (!revision.includes("@")) return;
    this.pinned.push({ revision, hash, connection: this.store.connect(revision) });
  }

  /** A transaction that reads a branch, whatever becomes of the branch. */
  private hold(random: Random): void {
    if (this.pinned.length > 3) return;
    const branch = random.pick(this.branches);
    const connection = this.store.connect(`shop/${branch}`);
    connection.exec("BEGIN; SELECT count(*) FROM t");
    this.pinned.push({ revision: branch, hash: this.heads.get(branch)!, connection });
  }

  private release(random: Random): void {
    if (this.pinned.length === 0) return;
    const pinned = random.pick(this.pinned);
    this.pinned = this.pinned.filter((other) => other !== pinned);
    if (pinned.connection.inTransaction) pinned.connection.exec("COMMIT");
    pinned.connection.close();
  }

  /** What an import does before it commits: its pages are in chunks, and nothing but the import knows them. */
  private async stage(random: Random): Promise<void> {
    const { state } = this.store.engine;
    if (this.staged === null) {
      const places = new PagePlaces();
      const holder: PageHolder = { trace: (tracer) => tracer.places(places) };
      this.staged = { places, pages: new Map(), holder };
      state.holders.add(holder);
    }
    const { places, pages } = this.staged;
    const writer = newPageWriter(state, 512);
    const content = random.chance(0.3) ? random : new Random(random.integer(1, 2));
    for (let count = random.pick([4, 7, 10]); count > 0; count--) {
      const bytes = content.bytes(512);
      const number = pages.size + 1;
      pages.set(number, Buffer.from(bytes).toString("hex"));
      if (writer.add(bytes, (reference) => places.set(number, reference))) await writer.flush();
    }
    await writer.finish();
    if (random.chance(0.5)) await indexPendingPages(state);
  }

  private expectStaged(): void {
    if (this.staged === null) return;
    const { chunks } = this.store.engine.state;
    for (const [number, reference] of this.staged.places.entries()) {
      const page = Buffer.from(chunks.readPage(reference, 512)).toString("hex");
      expect(page, `staged page ${number}`).toBe(this.staged.pages.get(number));
    }
  }

  /** The import gives up. */
  private forgetStaged(): void {
    if (this.staged === null) return;
    this.store.engine.state.holders.delete(this.staged.holder);
    this.staged = null;
  }

  private checkpoint(): void {
    this.store.checkpoint();
  }

  private checkpointSlice(random: Random): void {
    for (let count = random.integer(1, 5); count > 0; count--) this.store.engine.stepCheckpoint(0);
  }

  private begin(random: Random): void {
    this.store.engine.beginCollection({
      isDryRun: random.chance(0.1),
      isBlocking: true,
      isAwaited: true,
    });
  }

  private slice(random: Random): void {
    for (let count = random.integer(1, 4); count > 0; count--) this.store.engine.collect(0);
  }

  private slices(random: Random): void {
    for (let count = random.integer(5, 40); count > 0; count--) this.store.engine.collect(0);
  }

  private collect(): void {
    this.hasExpired = true;
    this.store.gc();
  }

  private expire(): void {
    this.hasExpired = true;
    expireStore(this.store.engine);
  }

  private later(random: Random): void {
    this.clock += random.pick([HOUR_MS, 25 * HOUR_MS, 200 * HOUR_MS]);
  }

  private reopen(): void {
    this.forgetMemory();
    this.store.close();
    this.store = this.open();
  }

  private crash(random: Random): void {
    this.pinned = [];
    this.staged = null;
    this.disk = this.disk.copyAfterCrash(random);
    this.store = this.open();
  }

  private forgetMemory(): void {
    for (const { connection } of this.pinned.splice(0)) {
      if (connection.inTransaction) connection.exec("COMMIT");
      connection.close();
    }
    this.forgetStaged();
  }
}

function hashOf(connection: StoreConnection): string {
  return createHash("sha256").update(connection.serialize()).digest("hex");
}

test(
  "whatever anybody can read stays the same while garbage is collected",
  {
    timeout: LIMIT_MS + 120_000,
  },
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        fc.array(step, { minLength: 20, maxLength: 150, size: "max" }),
        async (isEncrypted, steps) => {
          const session = new Session(isEncrypted);
          try {
            for (const one of steps) await session.run(one);
            await session.end();
          } catch (error) {
            throw new Error(`After ${session.done.join(" ")}: ${String(error)}`, { cause: error });
          }
        },
      ),
      {
        numRuns: isLong ? 100_000 : 30,
        interruptAfterTimeLimit: LIMIT_MS,
        ...(process.env["BOUGH_TEST_SEED"] === undefined
          ? {}
          : { seed: Number(process.env["BOUGH_TEST_SEED"]) }),
      },
    );
  },
);
