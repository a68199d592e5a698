/**
 * Random commits, forks, resets, tags, deletions and clocks, with expiry in between: what the policy promises reads what it
 * read when it was made, everything else does so too or is VERSION_EXPIRED. Then power loss at every write of an expiry.
 *
 * What is promised is written down here once more, from docs/retention.md and not from src/retention.
 */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { RetentionOverrides } from "../src/catalog/rows.ts";
import { StoreError } from "../src/errors.ts";
import { resolveRevision } from "../src/store/resolve-revision.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import type { OperationKind } from "../src/testing/simulated-faults.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import type { Snapshot } from "../src/transaction/snapshot.ts";

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);

interface Commit {
  readonly version: number;
  readonly atMs: number;
}

interface Line {
  readonly from: { readonly line: number; readonly version: number } | null;
  readonly commits: Commit[];
  /** Versions of checkpoints. */
  readonly roots: Commit[];
}

interface ModelBranch {
  name: string;
  parent: string | null;
  deletedAtMs: number | null;
  /** An expiry found it deleted for so long that it cannot come back. */
  isForgotten: boolean;
  retention: RetentionOverrides;
  history: { line: number; after: number; atMs: number }[];
}

const DEFAULTS = {
  everyCommitMs: DAY,
  hourlyMs: 7 * DAY,
  dailyMs: 30 * DAY,
  undeleteMs: 7 * DAY,
};

/** A store with one database, "shop", and what it must hold. */
class World {
  disk = new SimulatedStorage();
  clock = Date.UTC(2026, 0, 1);
  store: Store;
  lines: Line[] = [{ from: null, commits: [], roots: [] }];
  branches: ModelBranch[] = [
    {
      name: "main",
      parent: null,
      deletedAtMs: null,
      isForgotten: false,
      retention: {},
      history: [{ line: 0, after: 0, atMs: 0 }],
    },
  ];
  tags = new Map<string, number>();
  hashes = new Map<number, string>();
  retention: RetentionOverrides = {};
  version = 0;
  lastMs = 0;
  /** What somebody goes on reading. */
  readers: { readonly read: () => string; readonly hash: string; readonly close: () => void }[] =
    [];
  /** Versions that an expiry was free to drop; a wider policy does not bring them back. */
  droppable = new Set<number>();
  private names = 0;

  constructor() {
    this.store = this.open();
    this.store.createDatabase("shop", { pageSize: 512 });
  }

  open(storage: SimulatedStorage = this.disk): Store {
    return openStore("", {
      backend: "memory",
      storage,
      now: () => this.clock,
      chunkPages: 8,
      checkpointIntervalMs: 1000 * DAY,
    });
  }

  living(): ModelBranch[] {
    return this.branches.filter(({ deletedAtMs }) => deletedAtMs === null);
  }

  line(branch: ModelBranch): Line {
    return this.lines[branch.history.at(-1)!.line]!;
  }

  /** Commits that the line has, oldest first, with those that it grew from. */
  chain(line: number, upTo = Infinity): Commit[] {
    const { from, commits } = this.lines[line]!;
    const below = from === null ? [] : this.chain(from.line, Math.min(upTo, from.version));
    return [...below, ...commits.filter(({ version }) => version <= upTo)];
  }

  head(branch: ModelBranch): Commit | undefined {
    return this.chain(branch.history.at(-1)!.line).at(-1);
  }

  /** Every commit that the branch can name, by version. */
  commitsOf(branch: ModelBranch): Map<number, Commit> {
    const found = new Map<number, Commit>();
    let end = Infinity;
    for (const { line, after } of branch.history.toReversed()) {
      for (const commit of this.chain(line, end)) found.set(commit.version, commit);
      end = Math.min(end, after);
    }
    return found;
  }

  policy(branch: ModelBranch): typeof DEFAULTS {
    return { ...DEFAULTS, ...this.retention, ...branch.retention } as typeof DEFAULTS;
  }

  /** Versions that reading through the branch must find. */
  promised(branch: ModelBranch): Set<number> {
    const kept = this.asked(branch);
    for (const version of this.droppable) kept.delete(version);
    return kept;
  }

  /** Versions that the branch's policy keeps. */
  private asked(branch: ModelBranch): Set<number> {
    const { everyCommitMs, hourlyMs, dailyMs } = this.policy(branch);
    const commits = this.commitsOf(branch);
    const kept = new Set<number>();
    for (const { version, atMs } of commits.values())
      if (atMs > this.clock - everyCommitMs) kept.add(version);
    const head = this.head(branch);
    if (head !== undefined) kept.add(head.version);
    for (const version of this.tags.values()) if (commits.has(version)) kept.add(version);
    for (const other of this.living()) {
      for (let { from } = this.line(other); from !== null; { from } = this.lines[from.line]!)
        if (commits.has(from.version)) kept.add(from.version);
    }
    for (const [windowMs, periodMs] of [
      [hourlyMs, HOUR],
      [dailyMs, DAY],
    ] as const) {
      const newest = new Map<number, Commit>();
      for (const root of this.line(branch).roots)
        newest.set(Math.floor(root.atMs / periodMs), root);
      for (const root of newest.values())
        if (root.atMs > this.clock - windowMs) kept.add(root.version);
    }
    return kept;
  }

  write(branch: ModelBranch, random: Random): void {
    const connection = this.store.connect(`shop/${branch.name}`);
    connection.exec("CREATE TABLE IF NOT EXISTS item(id INTEGER PRIMARY KEY, value)");
    const before = this.store.database("shop").branch(branch.name).head.version;
    if (this.head(branch)?.version !== before) this.note(branch);
    for (let count = random.integer(1, 4); count > 0; count--) {
      connection
        .prepare("INSERT OR REPLACE INTO item VALUES (?, ?)")
        .run(
          random.integer(1, 40),
          "v".repeat(random.integer(1, 300)) + String(random.integer(1, 1e9)),
        );
      this.note(branch);
      this.clock += random.integer(0, 2 * SECOND);
    }
    connection.close();
  }

  checkpoint(): void {
    this.store.checkpoint();
    for (const line of this.lines) {
      const newest = line.commits.at(-1);
      if (newest !== undefined && line.roots.at(-1)?.version !== newest.version)
        line.roots.push(newest);
    }
  }

  fork(random: Random): void {
    const parent = random.pick(this.living());
    const from = this.readable(parent, random);
    if (from === null || this.living().length > 5) return;
    const name = this.newName();
    this.store.database("shop").createBranch(name, { from: `shop/${parent.name}@${from}` });
    this.branches.push({
      name,
      parent: parent.name,
      deletedAtMs: null,
      isForgotten: false,
      retention: {},
      history: [{ line: this.addLine(parent, from), after: 0, atMs: 0 }],
    });
  }

  reset(random: Random): void {
    const branch = random.pick(this.living());
    const to = this.readable(branch, random);
    if (to === null) return;
    const database = this.store.database("shop");
    const revision = `shop/${branch.name}@${to}`;
    if (random.chance(0.5)) {
      const backup = this.newName();
      database.branch(branch.name).restore({ to: revision, preserveAs: backup });
      this.branches.push({ ...branch, name: backup, retention: {}, history: [...branch.history] });
    } else database.branch(branch.name).reset({ to: revision });
    this.lastMs = Math.max(this.lastMs, this.clock);
    const line = this.addLine(branch, to);
    branch.history.push({ line, after: this.version, atMs: this.lastMs });
  }

  tag(random: Random): void {
    const database = this.store.database("shop");
    if (this.tags.size > 2) {
      const name = random.pick([...this.tags.keys()]);
      database.deleteTag(name);
      this.tags.delete(name);
      return;
    }
    const branch = random.pick(this.living());
    const version = this.readable(branch, random);
    if (version === null) return;
    const name = `t${this.newName()}`;
    database.createTag(name, { at: `shop/${branch.name}@${version}` });
    this.tags.set(name, version);
  }

  delete(random: Random): void {
    const branch = random.pick(this.living());
    const hasChildren = this.living().some(({ parent }) => parent === branch.name);
    if (branch.name === "main" || hasChildren) return;
    this.store.database("shop").branch(branch.name).delete();
    branch.deletedAtMs = this.clock;
  }

  undelete(random: Random): void {
    const deleted = this.branches.filter(({ deletedAtMs }) => deletedAtMs !== null);
    if (deleted.length === 0) return;
    const branch = random.pick(deleted);
    try {
      this.store.database("shop").undeleteBranch(branch.name);
      branch.deletedAtMs = null;
    } catch (error) {
      expect(error).toMatchObject({ code: "BRANCH_NOT_FOUND" });
      expect(branch.isForgotten).toBe(true);
      this.branches = this.branches.filter((other) => other !== branch);
    }
  }

  setRetention(random: Random): void {
    const retention = {
      everyCommitMs: random.pick([0, 5 * SECOND, HOUR, DAY]),
      hourlyMs: random.pick([0, 3 * HOUR, 7 * DAY]),
      dailyMs: random.pick([0, 3 * DAY, 30 * DAY]),
      undeleteMs: random.pick([0, HOUR, 7 * DAY]),
    };
    if (random.chance(0.5)) {
      this.store.database("shop").setRetention(retention);
      this.retention = retention;
    } else {
      const branch = random.pick(this.living());
      const own = random.chance(0.5) ? null : retention;
      this.store.database("shop").branch(branch.name).setRetention(own);
      branch.retention = own ?? {};
    }
  }

  hold(random: Random): void {
    const branch = random.pick(this.living());
    const version = this.readable(branch, random);
    if (version === null || this.readers.length > 3) return;
    const connection = this.store.connect(`shop/${branch.name}@${version}`);
    const read = (): string =>
      JSON.stringify(connection.prepare("SELECT * FROM item ORDER BY id").raw().all());
    this.readers.push({ read, hash: read(), close: () => void connection.close() });
  }

  /** Moves time on; back, now and then. */
  wait(random: Random): void {
    this.clock += random.pick([SECOND, 600 * SECOND, HOUR, 5 * HOUR, DAY, -1800 * SECOND]);
  }

  reopen(): void {
    this.checkpoint();
    for (const reader of this.readers) reader.close();
    this.readers = [];
    this.store.close();
    this.store = this.open();
  }

  expire(): void {
    this.checkpoint(); // So that the roots are those that the model knows of.
    this.store.expire();
    const asked = new Set<number>();
    for (const branch of this.branches) {
      const { undeleteMs } = this.policy(branch);
      if (branch.deletedAtMs !== null && branch.deletedAtMs <= this.clock - undeleteMs)
        branch.isForgotten = true;
      if (branch.isForgotten) continue;
      for (const version of this.asked(branch)) asked.add(version);
    }
    for (const version of this.tags.values()) asked.add(version);
    for (const version of this.hashes.keys()) if (!asked.has(version)) this.droppable.add(version);
  }

  private note(branch: ModelBranch): void {
    const { version, timestamp } = this.store.database("shop").branch(branch.name).head;
    this.line(branch).commits.push({ version, atMs: timestamp.getTime() });
    this.version = version;
    this.lastMs = Math.max(this.lastMs, timestamp.getTime());
    this.hashes.set(version, this.hashOf(`shop/${branch.name}@${version}`));
  }

  /** A version that the branch can read now. */
  private readable(branch: ModelBranch, random: Random): number | null {
    const versions = [...this.commitsOf(branch).keys()];
    for (let tries = 0; tries < 4 && versions.length > 0; tries++) {
      const version = random.pick(versions);
      if (this.hashOf(`shop/${branch.name}@${version}`) === this.hashes.get(version))
        return version;
    }
    return null;
  }

  private addLine(branch: ModelBranch, version: number): number {
    const index = this.lines.findIndex(({ commits }) =>
      commits.some((commit) => commit.version === version),
    );
    expect(this.commitsOf(branch).has(version)).toBe(true);
    this.lines.push({ from: { line: index, version }, commits: [], roots: [] });
    return this.lines.length - 1;
  }

  private newName(): string {
    return `b${++this.names}`;
  }

  /** Of the pages that a revision reads, or the code of the error. */
  hashOf(revision: string, store: Store = this.store): string {
    try {
      return hashOfPages(resolveRevision(store.engine, revision).snapshot!);
    } catch (error) {
      if (error instanceof StoreError) return error.code;
      throw error;
    }
  }

  /** Everything that a living branch or a tag can name. */
  verify(store: Store = this.store): Map<string, string> {
    const answers = new Map<string, string>();
    for (const branch of this.living()) {
      const promised = this.promised(branch);
      for (const version of this.commitsOf(branch).keys()) {
        const revision = `shop/${branch.name}@${version}`;
        const answer = this.hashOf(revision, store);
        const kept = this.hashes.get(version)!;
        answers.set(revision, answer);
        // Of a line that the branch was and that is forgotten; the message says who has the commit.
        if (answer === "VERSION_NOT_FOUND" && this.isReadElsewhere(store, version)) continue;
        expect(promised.has(version) ? [kept] : [kept, "VERSION_EXPIRED"], revision).toContain(
          answer,
        );
      }
      this.verifyLog(store, branch, answers);
    }
    for (const [name, version] of this.tags)
      expect(this.hashOf(`shop@${name}`, store), name).toBe(this.hashes.get(version));
    for (const { read, hash } of this.readers) expect(read()).toBe(hash);
    return answers;
  }

  private isReadElsewhere(store: Store, version: number): boolean {
    return this.living().some(
      ({ name }) => this.hashOf(`shop/${name}@${version}`, store) === this.hashes.get(version),
    );
  }

  /** The log lists what is readable, and a time finds the commit of that time or none. */
  private verifyLog(store: Store, branch: ModelBranch, answers: Map<string, string>): void {
    const isKept = ({ version }: Commit): boolean =>
      answers.get(`shop/${branch.name}@${version}`) === this.hashes.get(version);
    const logged = store.database("shop").branch(branch.name).log();
    const current = this.chain(branch.history.at(-1)!.line);
    expect(logged.map(({ version }) => version).reverse()).toEqual(
      current.filter(isKept).map(({ version }) => version),
    );
    for (const { version, parent } of logged) {
      const index = current.findIndex((commit) => commit.version === version);
      const before = current[index - 1];
      expect(parent).toBe(before !== undefined && isKept(before) ? before.version : null);
    }
    const times = [...this.commitsOf(branch).values()].flatMap(({ atMs }) => [atMs, atMs + 1]);
    for (const atMs of times) {
      if (atMs > this.clock) continue;
      const entry = branch.history.findLast((candidate) => candidate.atMs <= atMs)!;
      const expected = this.chain(entry.line).findLast((commit) => commit.atMs <= atMs);
      const answer = this.hashOf(`shop/${branch.name}@${new Date(atMs).toISOString()}`, store);
      const kept =
        expected === undefined
          ? ["VERSION_NOT_FOUND"]
          : [this.hashes.get(expected.version)!, "VERSION_EXPIRED"];
      // Of a line that is forgotten nobody knows whether it had a commit by then.
      const isOnLine = this.lines[entry.line]!.commits.some((commit) => commit === expected);
      const isCurrent = entry === branch.history.at(-1);
      if (expected !== undefined && isKept(expected) && (isOnLine || isCurrent)) kept.pop();
      expect(kept, `${branch.name} at ${atMs}`).toContain(answer);
    }
  }
}

function hashOfPages(snapshot: Snapshot): string {
  const hash = createHash("sha256").update(String(snapshot.pageCount));
  for (let page = 1; page <= snapshot.pageCount; page++) hash.update(snapshot.page(page));
  return hash.digest("hex");
}

function step(world: World, random: Random): void {
  const actions: readonly (readonly [number, () => void])[] = [
    [10, () => world.write(random.pick(world.living()), random)],
    [5, () => world.checkpoint()],
    [5, () => world.wait(random)],
    [3, () => world.fork(random)],
    [2, () => world.reset(random)],
    [2, () => world.tag(random)],
    [2, () => world.delete(random)],
    [1, () => world.undelete(random)],
    [1, () => world.setRetention(random)],
    [1, () => world.hold(random)],
    [1, () => world.reopen()],
    [3, () => world.expire()],
  ];
  let choice = random.integer(
    1,
    actions.reduce((sum, [weight]) => sum + weight, 0),
  );
  actions.find(([weight]) => (choice -= weight) <= 0)![1]();
}

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
  const promised = world.promised(world.branches[0]!);
  for (const [revision, answer] of world.verify()) {
    const version = Number(revision.slice(revision.indexOf("@") + 1));
    if (!promised.has(version)) expect(answer, revision).toBe("VERSION_EXPIRED");
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
