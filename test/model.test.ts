/**
 * Random work in any order against plain maps, found and shrunk by fast-check: commits, forks, resets, restores, tags and
 * the rest (store-workload.ts), and between them readers that stay open across it all, reads of old versions, attached
 * revisions, background checkpoints, garbage collection, another compression, damage that is repaired from a copy, and power
 * loss. After each step names, heads and a few revisions are compared. (Versions that expire: retention.test.ts; other
 * machines that follow, take over and restore: remote-model.test.ts.)
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { CopySource } from "../src/store/copy-source.ts";
import { repairStore } from "../src/store/repair-store.ts";
import { Random } from "../src/testing/random.ts";
import { sizeOf } from "../src/testing/repair-fixture.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import type { ModelBranch, ModelDatabase, Rows } from "./store-model.ts";
import { SMALL_STORE, Workload } from "./store-workload.ts";
import { expectRows, integrityOf, outlineOf, readRows, verifyContents } from "./verify-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const LIMIT_MS = isLong ? 600_000 : 15_000;
const HELD_MAX = 6;
const SELECT = "SELECT id, value || '/' || note FROM item ORDER BY id";

type StepKind =
  | "work"
  | "hold"
  | "release"
  | "read"
  | "attach"
  | "tick"
  | "collect"
  | "compress"
  | "repair"
  | "crash";

interface Step {
  readonly kind: StepKind;
  /** Decides everything else about the step. */
  readonly seed: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 12, arbitrary: fc.constant<StepKind>("work") },
    {
      weight: 2,
      arbitrary: fc.constantFrom<StepKind>("hold", "release", "read", "attach", "tick"),
    },
    { weight: 1, arbitrary: fc.constantFrom<StepKind>("collect", "compress") },
    { weight: 1, arbitrary: fc.constantFrom<StepKind>("crash", "repair") },
  ),
  seed: fc.nat(),
});

/** A reader that started some time ago. */
interface Held {
  readonly what: string;
  readonly connection: StoreConnection;
  readonly expected: Rows;
  /** Rows read so far, and the rest to come; null: a transaction without a running query. */
  readonly rows: Map<number, string>;
  readonly iterator: Iterator<unknown> | null;
}

class Session {
  private readonly machine = { disk: new SimulatedStorage(), clock: 1_000_000 };
  private readonly workload: Workload;
  private held: Held[] = [];

  constructor(options: { seed: number; isEncrypted: boolean }) {
    this.workload = new Workload({
      random: new Random(options.seed),
      key: options.isEncrypted ? "ef".repeat(32) : null,
      open: (key) => ({
        ...SMALL_STORE,
        storage: this.machine.disk,
        now: () => (this.machine.clock += 10),
        ...(key === null ? {} : { key }),
      }),
    });
    this.workload.start();
  }

  async run({ kind, seed }: Step): Promise<void> {
    const random = new Random(seed);
    if (kind === "work") {
      this.workload.mayReopen = this.held.length === 0;
      this.workload.step(random);
    } else if (kind === "tick") await new Promise(setImmediate);
    else if (kind === "crash") this.crash(random);
    else if (kind === "collect") this.workload.store.gc();
    else if (kind === "compress") this.workload.store.setCompression(random.pick(["none", "lz4"]));
    else if (kind === "repair") await this.repair(random);
    else if (this.workload.acknowledged.living().length > 0) this[kind](random);
    this.compare(random);
  }

  end(): void {
    for (const held of this.held) this.finish(held);
    const { store, acknowledged } = this.workload;
    verifyContents(store, acknowledged, new Random(1), { integrityShare: 0.2 });
    store.close();
  }

  describe(): string {
    return this.workload.done.join("; ");
  }

  /** The newest state through new connections. */
  private compare(random: Random): void {
    const { store, acknowledged } = this.workload;
    expect(outlineOf(store)).toBe(acknowledged.outline());
    if (acknowledged.living().length > 0) this.read(random);
  }

  private place(random: Random): {
    database: ModelDatabase;
    branch: ModelBranch;
    revision: string;
  } {
    const database = random.pick(this.workload.acknowledged.living());
    const branch = random.pick(database.living());
    return { database, branch, revision: `${database.name}/${branch.name}` };
  }

  private anyRevision(random: Random): { revision: string; rows: Rows | null } {
    const { database, branch, revision } = this.place(random);
    const old = random.chance(0.3) ? null : database.pickVersion(branch, random);
    if (old === null) return { revision, rows: database.rows(branch) };
    return {
      revision: `${revision}@${old.version}`,
      rows: database.commitAt(old.point).rows,
    };
  }

  private read(random: Random): void {
    const { revision, rows } = this.anyRevision(random);
    using connection = this.workload.store.connect(revision);
    expectRows(readRows(connection), rows, revision);
    if (random.chance(0.1)) expect(integrityOf(connection), revision).toBe("ok");
  }

  private attach(random: Random): void {
    const main = this.anyRevision(random);
    const other = this.anyRevision(random);
    using connection = this.workload.store.connect(main.revision);
    connection.exec(`ATTACH '${other.revision}' AS other`);
    expectRows(readRows(connection), main.rows, main.revision);
    if (other.rows === null) return;
    const rows = connection.prepare(SELECT.replace("item", "other.item")).raw().all();
    expectRows(new Map(rows as [number, string][]), other.rows, `attached ${other.revision}`);
  }

  private hold(random: Random): void {
    const { revision, rows: expected } = this.anyRevision(random);
    if (expected === null || this.held.length >= HELD_MAX) return;
    const connection = this.workload.store.connect(revision);
    const what = `${revision}, held since step ${this.workload.done.length}`;
    const rows = new Map<number, string>();
    if (random.chance(0.4)) {
      connection.exec("BEGIN");
      expectRows(readRows(connection), expected, what);
      this.held.push({ what, connection, expected, rows, iterator: null });
      return;
    }
    const iterator = connection.prepare(SELECT).raw().iterate();
    for (let count = random.integer(1, 20); count > 0; count--) {
      const { value, done } = iterator.next();
      if (done === true) {
        connection.close();
        return;
      }
      const [id, text] = value as [number, string];
      rows.set(id, text);
    }
    this.held.push({ what, connection, expected, rows, iterator });
  }

  private release(random: Random): void {
    if (this.held.length === 0) return;
    const held = random.pick(this.held);
    this.held = this.held.filter((other) => other !== held);
    this.finish(held);
  }

  private finish({ what, connection, expected, rows, iterator }: Held): void {
    if (iterator === null) {
      expectRows(readRows(connection), expected, what);
      connection.exec("COMMIT");
    } else {
      for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
        const [id, text] = next.value as [number, string];
        rows.set(id, text);
      }
      expectRows(rows, expected, what);
    }
    connection.close();
  }

  /** The store is closed, a file of it damaged, and mended with a copy made before; all is there again. */
  private async repair(random: Random): Promise<void> {
    for (const held of this.held.splice(0)) this.finish(held);
    this.workload.store.close();
    const { disk } = this.machine;
    const source = CopySource.open("copy", disk.copyAfterCrash(random));
    const damaged = random.pick(
      ["", "chunks", "history", "catalog"].flatMap((directory) =>
        disk
          .listSync(directory)
          .filter((name) => directory !== "" || name === "store.json")
          .map((name) => (directory === "" ? name : `${directory}/${name}`))
          .filter((path) => sizeOf(disk, path) > 0),
      ),
    );
    const size = sizeOf(disk, damaged);
    for (let bits = random.integer(1, 4); bits > 0; bits--)
      disk.flipBit(damaged, random.integer(0, size * 8 - 1));
    const [key] = this.workload.keys;
    const result = await repairStore("store", {
      storage: disk,
      source,
      ...(key == null ? {} : { key }),
    });
    source.close();
    expect(result.report.problems, damaged).toEqual([]);
    this.workload.recover((store, model) => verifyContents(store, model, random));
  }

  private crash(random: Random): void {
    this.held = [];
    this.machine.disk = this.machine.disk.copyAfterCrash(random);
    this.workload.recover((store, model) => verifyContents(store, model, random));
  }
}

test("a store behaves like plain maps of rows", { timeout: LIMIT_MS + 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({ seed: fc.nat(), isEncrypted: fc.boolean() }),
      fc.array(step, { minLength: 20, maxLength: 120, size: "max" }),
      async (options, steps) => {
        const session = new Session(options);
        try {
          for (const one of steps) await session.run(one);
          session.end();
        } catch (error) {
          throw new Error(`After ${session.describe()}: ${String(error)}`, { cause: error });
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
});
