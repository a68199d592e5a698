/** A store and what retention promises of it, written down once more from docs/retention.md and not from src/retention. */
import { createHash } from "node:crypto";
import { expect } from "vitest";
import type { RetentionOverrides } from "../src/catalog/rows.ts";
import { StoreError } from "../src/errors.ts";
import { resolveRevision } from "../src/store/resolve-revision.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import type { Snapshot } from "../src/transaction/snapshot.ts";

export const SECOND = 1000;
export const HOUR: number = 3600 * SECOND;
export const DAY: number = 24 * HOUR;

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

interface Windows {
  readonly everyCommitMs: number;
  readonly hourlyMs: number;
  readonly dailyMs: number;
  readonly undeleteMs: number;
}

const DEFAULTS: Windows = {
  everyCommitMs: DAY,
  hourlyMs: 7 * DAY,
  dailyMs: 30 * DAY,
  undeleteMs: 7 * DAY,
};

/** A store with one database, "shop", and what it must hold. */
export class World {
  disk: SimulatedStorage = new SimulatedStorage();
  clock: number = Date.UTC(2026, 0, 1);
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
  tags: Map<string, number> = new Map();
  hashes: Map<number, string> = new Map();
  retention: RetentionOverrides = {};
  version: number = 0;
  lastMs: number = 0;
  /** What somebody goes on reading. */
  readers: { readonly read: () => string; readonly hash: string; readonly close: () => void }[] =
    [];
  /** Versions that an expiry was free to drop; a wider policy does not bring them back. */
  droppable: Set<number> = new Set();
  /** Whether `Line.roots` are all checkpoints that there are. */
  knowsRoots: boolean = true;
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
  chain(line: number, upTo: number = Infinity): Commit[] {
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

  policy(branch: ModelBranch): Windows {
    return { ...DEFAULTS, ...this.retention, ...branch.retention } as Windows;
  }

  /** Versions that reading through the branch must find. */
  promised(branch: ModelBranch): Set<number> {
    const kept = this.asked(branch);
    for (const version of this.droppable) kept.delete(version);
    return kept;
  }

  /** Versions that the branch's policy keeps. */
  asked(branch: ModelBranch): Set<number> {
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
    if (!this.knowsRoots) return kept;
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
    this.noteDroppable();
  }

  /** Expires in slices while other work goes on; what is asked for at every moment of it stays. */
  async expireMeanwhile(work: () => void): Promise<void> {
    this.knowsRoots = false; // Checkpoints come when they come.
    const state = { isDone: false };
    const expiring = this.store.expireAsync().finally(() => {
      state.isDone = true;
    });
    this.noteDroppable();
    while (!state.isDone) {
      work();
      this.noteDroppable();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await expiring;
  }

  private noteDroppable(): void {
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

export function step(world: World, random: Random): void {
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
