/**
 * What a store must hold, in plain maps: the reference that crash, model and kill tests compare with.
 *
 * Every database has one table, `item(id INTEGER PRIMARY KEY, value TEXT, note TEXT)`; a commit is the rows that it left.
 * Null rows: the table was not made yet. The rules of names and timelines are written down here a second time, from their
 * description and not from src/branch/refs.ts:
 *
 * M1. A commit is never changed. A branch at version v is that commit, which the branch must have.
 * M2. A reset gives the branch a new line of commits; what it was before stays readable up to the version of the reset.
 */
import type { Random } from "../src/testing/random.ts";

export type Rows = ReadonlyMap<number, string>;

export interface ModelCommit {
  readonly version: number;
  readonly rows: Rows | null;
}

interface Line {
  readonly from: { readonly line: number; readonly version: number } | null;
  readonly commits: readonly ModelCommit[];
}

export interface ModelBranch {
  readonly id: number;
  readonly name: string;
  readonly parent: number | null;
  readonly isDeleted: boolean;
  readonly deletedAt: number;
  readonly isProtected: boolean;
  /** Oldest first: from versions greater than `after` on, the branch was this line. */
  readonly history: readonly { readonly line: number; readonly after: number }[];
}

export interface ModelPoint {
  readonly line: number;
  readonly version: number;
}

const NOTHING: ModelCommit = { version: 0, rows: null };

export class ModelDatabase {
  readonly id: number;
  name: string;
  isDeleted = false;
  version = 0;
  branches: readonly ModelBranch[] = [
    {
      id: 1,
      name: "main",
      parent: null,
      isDeleted: false,
      deletedAt: 0,
      isProtected: false,
      history: [{ line: 0, after: 0 }],
    },
  ];
  lines: readonly Line[] = [{ from: null, commits: [] }];
  tags: ReadonlyMap<string, ModelPoint> = new Map();
  private clock = 0;

  constructor(id: number, name: string) {
    this.id = id;
    this.name = name;
  }

  clone(): ModelDatabase {
    return Object.assign(new ModelDatabase(this.id, this.name), this);
  }

  living(): ModelBranch[] {
    return this.branches.filter((branch) => !branch.isDeleted);
  }

  branch(name: string): ModelBranch {
    const branch = this.living().find((candidate) => candidate.name === name);
    if (branch === undefined) throw new Error(`The model has no branch "${this.name}/${name}"`);
    return branch;
  }

  head(branch: ModelBranch): ModelPoint {
    const { line } = branch.history.at(-1)!;
    return { line, version: this.commitAt({ line, version: Infinity }).version };
  }

  /** The rows at a branch's head. */
  rows(branch: ModelBranch): Rows | null {
    return this.commitAt(this.head(branch)).rows;
  }

  /** The commit of that version, if the branch has it now or had it before a reset. */
  at(branch: ModelBranch, version: number): ModelPoint | null {
    let end = Infinity;
    for (const { line, after } of branch.history.toReversed()) {
      const point = { line, version };
      if (version <= end && this.commitAt(point).version === version) return point;
      end = Math.min(end, after);
    }
    return null;
  }

  /** A version that the branch has; null when it has none. */
  pickVersion(branch: ModelBranch, random: Random): { version: number; point: ModelPoint } | null {
    const start = random.integer(1, Math.max(1, this.version));
    for (let offset = 0; offset < this.version; offset++) {
      const version = ((start + offset - 1) % this.version) + 1;
      const point = this.at(branch, version);
      if (point !== null) return { version, point };
    }
    return null;
  }

  commitAt(point: ModelPoint): ModelCommit {
    for (let { line, version } = point; ;) {
      const { from, commits } = this.lines[line]!;
      const commit = commits.findLast((candidate) => candidate.version <= version);
      if (commit !== undefined) return commit;
      if (from === null) return NOTHING;
      version = Math.min(version, from.version);
      line = from.line;
    }
  }

  /** Every commit that a living branch can name, as "branch@version". */
  *revisions(): Generator<{ readonly branch: ModelBranch; readonly commit: ModelCommit }> {
    for (const branch of this.living()) {
      for (const [index, { line, after }] of branch.history.entries()) {
        const until = branch.history[index + 1]?.after ?? Infinity;
        for (const commit of this.lines[line]!.commits)
          if (commit.version > after && commit.version <= until) yield { branch, commit };
      }
    }
  }

  commit(branchId: number, version: number, rows: Rows | null): void {
    const { line } = this.byId(branchId).history.at(-1)!;
    this.version = Math.max(this.version, version);
    this.lines = this.lines.with(line, {
      ...this.lines[line]!,
      commits: [...this.lines[line]!.commits, { version, rows }],
    });
  }

  fork(name: string, parent: number, from: ModelPoint): void {
    const line = this.addLine(from);
    this.addBranch(name, parent, [{ line, after: 0 }]);
  }

  reset(branchId: number, to: ModelPoint, preserveAs: string | null): void {
    const branch = this.byId(branchId);
    if (preserveAs !== null) this.addBranch(preserveAs, branch.parent, branch.history);
    const line = this.addLine(to);
    this.change(branchId, { history: [...branch.history, { line, after: this.version }] });
  }

  rename(branchId: number, name: string): void {
    this.change(branchId, { name });
  }

  protect(branchId: number, isProtected: boolean): void {
    this.change(branchId, { isProtected });
  }

  delete(branchId: number): void {
    this.change(branchId, { isDeleted: true, deletedAt: ++this.clock });
  }

  /** The branch of that name that was deleted last. */
  deletedNamed(name: string): ModelBranch | undefined {
    return this.branches
      .filter((branch) => branch.isDeleted && branch.name === name)
      .sort((left, right) => right.deletedAt - left.deletedAt)[0];
  }

  undelete(name: string): void {
    this.change(this.deletedNamed(name)!.id, { isDeleted: false });
  }

  setTag(name: string, point: ModelPoint | null): void {
    const tags = new Map(this.tags);
    if (point === null) tags.delete(name);
    else tags.set(name, point);
    this.tags = tags;
  }

  /** What must match at a glance: names and heads. */
  outline(): unknown {
    return {
      database: this.name,
      branches: this.living()
        .map((branch) => [branch.name, this.head(branch).version, branch.isProtected])
        .sort(byFirst),
      tags: [...this.tags]
        .map(([name, point]) => [name, this.commitAt(point).version])
        .sort(byFirst),
    };
  }

  private byId(id: number): ModelBranch {
    return this.branches.find((branch) => branch.id === id)!;
  }

  private change(id: number, values: Partial<ModelBranch>): void {
    this.branches = this.branches.map((branch) =>
      branch.id === id ? { ...branch, ...values } : branch,
    );
  }

  private addLine(from: ModelPoint): number {
    this.lines = [...this.lines, { from, commits: [] }];
    return this.lines.length - 1;
  }

  private addBranch(name: string, parent: number | null, history: ModelBranch["history"]): void {
    const id = this.branches.length + 1;
    const fresh = { isDeleted: false, deletedAt: 0, isProtected: false };
    this.branches = [...this.branches, { id, name, parent, history, ...fresh }];
  }
}

export class StoreModel {
  databases: readonly ModelDatabase[] = [];

  clone(): StoreModel {
    const model = new StoreModel();
    model.databases = this.databases.map((database) => database.clone());
    return model;
  }

  database(id: number): ModelDatabase {
    return this.databases.find((database) => database.id === id)!;
  }

  living(): ModelDatabase[] {
    return this.databases.filter((database) => !database.isDeleted);
  }

  createDatabase(name: string): void {
    this.databases = [...this.databases, new ModelDatabase(this.databases.length + 1, name)];
  }

  outline(): string {
    const outlines = this.living()
      .sort((left, right) => (left.name < right.name ? -1 : 1))
      .map((database) => database.outline());
    return JSON.stringify(outlines);
  }
}

function byFirst(left: readonly unknown[], right: readonly unknown[]): number {
  return String(left[0]) < String(right[0]) ? -1 : 1;
}
