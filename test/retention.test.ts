/**
 * Random commits, forks, resets, tags, deletions and clocks, with expiry in between: what the policy promises reads what it
 * read when it was made, everything else does so too or is VERSION_EXPIRED. Then power loss at every write of an expiry.
 */
import { expect, test } from "vitest";
import { Random } from "../src/testing/random.ts";
import type { OperationKind } from "../src/testing/simulated-faults.ts";
import type { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { DAY, HOUR, SECOND, step, World } from "./retention-world.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);

test.each([1, 2, 3, 4].map((seed) => seed + seedOffset))(
  "what the policy promises is readable, the rest reads the same or has expired (seed %i)",
  async (seed) => {
    const random = new Random(seed);
    const world = new World();
    for (let count = 0; count < 90; count++) {
      step(world, random);
      if (count % 6 === 5) world.verify();
    }
    world.expire();
    world.verify();
    expect(await world.store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    world.reopen();
    const answers = world.verify();
    expect(new Set(answers.values())).toContain("VERSION_EXPIRED");
    await emptyOut(world);
    world.store.close();
  },
);

test.each([21, 22].map((seed) => seed + seedOffset))(
  "branches, tags and commits that come while versions expire in slices lose nothing (seed %i)",
  async (seed) => {
    const random = new Random(seed);
    const world = new World();
    const work = (): void => {
      const actions: readonly (() => void)[] = [
        () => world.write(random.pick(world.living()), random),
        () => world.fork(random),
        () => world.reset(random),
        () => world.tag(random),
        () => world.delete(random),
        () => world.undelete(random),
        () => world.hold(random),
        () => world.checkpoint(),
        () => {},
      ];
      random.pick(actions)();
    };
    for (let round = 0; round < 5; round++) {
      for (let count = 0; count < 25; count++) work();
      const retention = {
        everyCommitMs: random.pick([0, 5 * SECOND, HOUR]),
        hourlyMs: 0,
        dailyMs: random.pick([0, 3 * DAY]),
        undeleteMs: random.pick([0, 7 * DAY]),
      };
      world.store.database("shop").setRetention(retention);
      world.retention = retention;
      world.clock += random.pick([SECOND, HOUR, DAY]);
      await world.expireMeanwhile(work);
      world.verify();
      expect(await world.store.check({ deep: true })).toMatchObject({ problems: [] });
      world.reopen();
      world.verify();
    }
    world.store.close();
  },
);

/** Without windows, tags and other branches only the head of main is there, and no history. */
async function emptyOut(world: World): Promise<void> {
  const shop = world.store.database("shop");
  world.retention = { everyCommitMs: 0, hourlyMs: 0, dailyMs: 0, undeleteMs: 0 };
  shop.setRetention(world.retention);
  for (const branch of world.branches) branch.retention = {};
  for (const branch of shop.branches()) branch.setRetention(null);
  for (const { name } of shop.tags()) shop.deleteTag(name);
  world.tags.clear();
  while (shop.branches().length > 1) {
    const isParent = new Set(shop.branches().map(({ parent }) => parent?.name));
    shop
      .branches()
      .filter(({ name }) => name !== "main" && !isParent.has(name))
      .forEach((branch) => branch.delete());
  }
  for (const branch of world.living()) branch.deletedAtMs = world.clock;
  world.branches[0]!.deletedAtMs = null;
  world.clock += DAY;
  for (const reader of world.readers) reader.close();
  world.readers = [];
  world.expire();
  const asked = world.asked(world.branches[0]!);
  for (const [revision, answer] of world.verify()) {
    const version = Number(revision.slice(revision.indexOf("@") + 1));
    if (!asked.has(version)) expect(answer, revision).toBe("VERSION_EXPIRED");
  }
  expect(world.disk.listSync("history")).toEqual([]);
  expect([...world.store.engine.state.catalog.historySegments()]).toEqual([]);
  expect(world.store.engine.state.databases.get(1)!.refs.branches.size).toBe(1);
  expect(await world.store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
}

const CHANGING: readonly OperationKind[] = [
  "create",
  "write",
  "sync",
  "truncate",
  "makeDirectory",
  "rename",
  "delete",
  "syncDirectory",
];

test.each((isLong ? [11, 12, 13] : [11]).map((seed) => seed + seedOffset))(
  "power loss at every write of an expiry leaves what is promised, and the next one ends it (seed %i)",
  async (seed) => {
    const random = new Random(seed);
    const world = new World();
    for (let count = 0; count < 70; count++) step(world, random);
    world.retention = { everyCommitMs: HOUR, hourlyMs: DAY, dailyMs: 0, undeleteMs: 0 };
    world.store.database("shop").setRetention(world.retention);
    world.clock += DAY;
    world.reopen();
    world.store.close();
    const before = world.disk;
    const copy = (): SimulatedStorage => before.copyAfterCrash(new Random(seed));

    world.disk = copy();
    world.store = world.open();
    const opened = world.disk.countOf(...CHANGING);
    const report = world.store.expire();
    const operations = world.disk.countOf(...CHANGING) - opened;
    expect(report.expiredVersions).toBeGreaterThan(5);
    expect(operations).toBeGreaterThan(20);
    world.droppable = new Set(world.hashes.keys());
    const answers = world.verify();
    const historyFiles = world.disk.listSync("history");
    world.store.close();

    for (let operation = 1; operation <= operations; operation++) {
      const label = `seed ${seed}, crash at ${operation}`;
      const disk = copy();
      const store = world.open(disk);
      disk.crashAt({ kinds: CHANGING, count: operation });
      expect(() => store.expire(), label).toThrow();
      world.disk = disk.copyAfterCrash(random);
      world.store = world.open();
      for (const [revision, answer] of world.verify())
        if (answers.get(revision) !== "VERSION_EXPIRED")
          expect(answer, `${label}: ${revision}`).toBe(answers.get(revision));
      expect(await world.store.check(), label).toMatchObject({ problems: [] });
      world.store.expire();
      expect([...world.verify()], label).toEqual([...answers]);
      expect(world.disk.listSync("history"), label).toEqual(historyFiles);
      if (operation % 5 === 0)
        expect(await world.store.check({ deep: true }), label).toMatchObject({ problems: [] });
      world.store.close();
    }
  },
);
