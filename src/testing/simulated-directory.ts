/**
 * The names of the simulated disk: which file each path leads to now, and after a power failure.
 *
 * D1. A change of names (create, rename, delete) is durable after `sync` of its directory; a rename between two
 *     directories after a sync of either, since it is one operation.
 * D2. A crash loses any subset of the other changes, except that a change which is kept implies every earlier change of
 *     the same names: nothing is renamed before it was created.
 * D3. Directories themselves are durable at once (N3 of node-storage.ts).
 */
import { directoryOf } from "../storage/whole-file.ts";
import type { SimulatedInode } from "./simulated-inode.ts";
import type { Random } from "./random.ts";

/** What one operation did to names: null removes the name. */
interface NameChange {
  readonly changes: readonly { readonly path: string; readonly inode: SimulatedInode | null }[];
}

export class SimulatedNames {
  private readonly directories: Set<string>;
  private readonly durable: Map<string, SimulatedInode>;
  private current: Map<string, SimulatedInode>;
  private pending: NameChange[] = [];

  constructor(files: ReadonlyMap<string, SimulatedInode>, directories: ReadonlySet<string>) {
    this.durable = new Map(files);
    this.current = new Map(files);
    this.directories = new Set(directories);
  }

  get(path: string): SimulatedInode | undefined {
    return this.current.get(path);
  }

  hasDirectory(path: string): boolean {
    return this.directories.has(path);
  }

  makeDirectory(path: string): void {
    for (let made = path; made !== ""; made = directoryOf(made)) this.directories.add(made);
    this.directories.add("");
  }

  /** Names in a directory, sorted as by node:fs. */
  list(path: string): string[] {
    const prefix = path === "" ? "" : `${path}/`;
    const names = new Set<string>();
    for (const full of [...this.current.keys(), ...this.directories]) {
      if (full === "" || !full.startsWith(prefix)) continue;
      const name = full.slice(prefix.length);
      if (!name.includes("/")) names.add(name);
    }
    return [...names].sort();
  }

  set(path: string, inode: SimulatedInode): void {
    this.apply({ changes: [{ path, inode }] });
  }

  delete(path: string): void {
    this.apply({ changes: [{ path, inode: null }] });
  }

  rename(from: string, to: string, inode: SimulatedInode): void {
    this.apply({
      changes: [
        { path: to, inode },
        { path: from, inode: null },
      ],
    });
  }

  /** Makes the changes in `directory` durable, and the earlier ones that they rest on (D1, D2). */
  sync(directory: string): void {
    const synced = new Set<NameChange>();
    const names = new Set<string>();
    for (const change of this.pending.toReversed()) {
      const concerned = change.changes.some(
        ({ path }) => directoryOf(path) === directory || names.has(path),
      );
      if (!concerned) continue;
      synced.add(change);
      for (const { path } of change.changes) names.add(path);
    }
    for (const change of this.pending) {
      if (synced.has(change)) applyChange(this.durable, change);
    }
    this.pending = this.pending.filter((change) => !synced.has(change));
  }

  /** All files that any name leads to, now or after a crash. */
  *inodes(): Generator<SimulatedInode> {
    yield* new Set([...this.current.values(), ...this.durable.values()]);
  }

  /** Names after a power failure, over files as `fileAfterCrash` leaves them. */
  afterCrash(
    random: Random,
    fileAfterCrash: (inode: SimulatedInode) => SimulatedInode,
  ): SimulatedNames {
    const keptShare = random.pick([0, 0.5, 1]);
    const files = new Map(this.durable);
    const lost = new Set<string>();
    for (const change of this.pending) {
      const possible = change.changes.every(({ path }) => !lost.has(path));
      if (possible && random.chance(keptShare)) applyChange(files, change);
      else for (const { path } of change.changes) lost.add(path);
    }
    const left = [...files].map(([path, inode]) => [path, fileAfterCrash(inode)] as const);
    return new SimulatedNames(new Map(left), this.directories);
  }

  private apply(change: NameChange): void {
    applyChange(this.current, change);
    this.pending.push(change);
  }
}

function applyChange(files: Map<string, SimulatedInode>, change: NameChange): void {
  for (const { path, inode } of change.changes) {
    if (inode === null) files.delete(path);
    else files.set(path, inode);
  }
}
