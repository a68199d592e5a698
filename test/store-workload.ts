/**
 * Random work on a store, in step with the model (store-model.ts). Each step says beforehand what it will have done, so
 * that after a crash the store must hold either all of it or nothing:
 *
 *   acknowledged model --begin--> in flight: [acknowledged, after the 1st effect, after the 2nd, ...] --end--> acknowledged
 *
 * The same seed gives the same steps.
 */
import type { Branch } from "../src/store/branch.ts";
import type { Database } from "../src/store/database.ts";
import { expect } from "vitest";
import { StoreError } from "../src/errors.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import type { Random } from "../src/testing/random.ts";
import { type ModelBranch, type ModelDatabase, type Rows, StoreModel } from "./store-model.ts";
import { expectRows, outlineOf, readRows } from "./verify-store.ts";

/** Small sizes, so that rotation, checkpoints, history and staging all happen within a few steps. */
export const SMALL_STORE: StoreOptions = {
  backend: "memory",
  logSegmentBytes: 32 * 1024,
  checkpointBytes: 48 * 1024,
  transactionBytesMax: 16 * 1024,
  cacheBytesMax: 128 * 1024,
  chunkPages: 8,
};

const SCHEMA =
  "CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT NOT NULL, note TEXT NOT NULL);" +
  "CREATE INDEX item_value ON item(value);";
const BRANCHES_MAX = 6;
const DATABASES_MAX = 2;
const IDS = 400;

type Effect = (model: StoreModel) => void;

interface Place {
  readonly database: ModelDatabase;
  readonly branch: ModelBranch;
}

export interface WorkloadOptions {
  readonly random: Random;
  readonly open: (key: string | null) => StoreOptions;
  /** 64 hex characters; null: no encryption. */
  readonly key: string | null;
  /** As `open` says it: "full" by default. */
  readonly durability?: "full" | "normal";
  /** Opens the store, where it is not in a directory of its own. */
  readonly openStore?: (options: StoreOptions) => Store;
  /** New names have greater numbers than this. */
  readonly lastName?: number;
}

export class Workload {
  acknowledged: StoreModel = new StoreModel();
  /** What the store may hold if the step under way does not end; empty between steps. */
  inFlight: StoreModel[] = [];
  /** With durability "normal": what was acknowledged since something was surely synced. A power loss may leave any. */
  private unsynced: StoreModel[] = [];
  /** Keys that may open the store: two while the key is being changed. */
  keys: readonly (string | null)[];
  readonly done: string[] = [];
  /** Whether steps may close the store and open it again. */
  mayReopen: boolean = true;
  private openStore: Store | null = null;
  private random: Random;
  private readonly options: WorkloadOptions;
  private readonly connections = new Map<string, StoreConnection>();
  private names: number;
  /** Gets the states after each effect of a step. */
  onDone: (models: readonly StoreModel[]) => void = () => {};

  constructor(options: WorkloadOptions) {
    this.options = options;
    this.names = options.lastName ?? 0;
    this.random = options.random;
    this.keys = [options.key];
    this.inFlight = [this.acknowledged];
  }

  get store(): Store {
    if (this.openStore === null) throw new Error("The workload has not started");
    return this.openStore;
  }

  /** Makes the store. */
  start(): void {
    this.openStore = this.open();
    this.inFlight = [];
  }

  /** Goes on with a store that is open and holds what the model says. */
  goOn(store: Store, model: StoreModel): void {
    this.connections.clear();
    this.openStore = store;
    this.acknowledged = model;
    this.inFlight = [];
  }

  /** After a crash or a failure: opens the store again, finds the model that it holds, and goes on with that. */
  recover(verify: (store: Store, model: StoreModel) => void): void {
    this.connections.clear();
    const store = this.open();
    this.openStore = store;
    const latest = this.inFlight.length > 0 ? this.inFlight : [this.acknowledged];
    const candidates = [...latest, ...this.unsynced];
    const outline = outlineOf(store);
    const model = candidates.find((candidate) => candidate.outline() === outline);
    if (model === undefined) {
      expect(outline).toBe(candidates.map((candidate) => candidate.outline()).join("\nor "));
      return;
    }
    verify(store, model);
    this.acknowledged = model;
    this.inFlight = [];
    this.unsynced = [];
  }

  /** With its own dice, or those given from now on. */
  step(random: Random = this.random): void {
    this.random = random;
    if (this.acknowledged.living().length === 0) {
      if (this.acknowledged.databases.length > 0) this.undeleteDatabase();
      else this.createDatabase();
      return;
    }
    const place = this.place();
    if (place.database.rows(place.branch) === null) {
      this.createTable(place);
      return;
    }
    const [, action] = this.weighted();
    action(place);
  }

  private weighted(): readonly [number, (place: Place) => void] {
    const actions: readonly (readonly [number, (place: Place) => void])[] = [
      [1, () => this.createDatabase()],
      [14, (place) => this.write(place)],
      [3, (place) => this.writeMuch(place)],
      [2, (place) => this.rollBack(place)],
      [3, (place) => this.writeOnTwo(place)],
      [4, (place) => this.fork(place)],
      [2, (place) => this.reset(place)],
      [2, (place) => this.restore(place)],
      [2, (place) => this.tag(place)],
      [1, (place) => this.rename(place)],
      [1, (place) => this.delete(place)],
      [1, (place) => this.undelete(place)],
      [1, (place) => this.protect(place)],
      [1, (place) => this.vacuum(place)],
      [2, () => this.checkpoint()],
      [1, (place) => this.renameDatabase(place)],
      [1, (place) => this.deleteDatabase(place)],
      [1, () => this.undeleteDatabase()],
      [1, () => this.rotateKey()],
      [this.mayReopen ? 1 : 0, () => this.reopen()],
    ];
    let choice = this.random.integer(
      1,
      actions.reduce((sum, [weight]) => sum + weight, 0),
    );
    return actions.find(([weight]) => weight > 0 && (choice -= weight) <= 0)!;
  }

  /** With whichever key the store has. */
  private open(): Store {
    const failures: unknown[] = [];
    for (const key of this.keys) {
      try {
        const options = this.options.open(key);
        const store = this.options.openStore?.(options) ?? openStore("", options);
        this.keys = [key];
        return store;
      } catch (error) {
        failures.push(error);
        if (!(error instanceof StoreError) || error.code !== "KEY_WRONG") throw error;
      }
    }
    throw failures[0];
  }

  /** Runs `action`, whose durable effects are `effects`, in that order. */
  private attempt(what: string, effects: readonly Effect[], action: () => void): void {
    const models = [this.acknowledged];
    for (const effect of effects) {
      const model = models.at(-1)!.clone();
      effect(model);
      models.push(model);
    }
    this.inFlight = models;
    this.done.push(what);
    action();
    this.unsynced = []; // Changes of names and checkpoints sync the log, and with it all that came before.
    this.acknowledged = models.at(-1)!;
    this.inFlight = [];
    this.onDone(models.slice(1));
  }

  /** The same for a transaction, which syncs only with durability "full". */
  private commit(what: string, effects: readonly Effect[], action: () => void): void {
    const before = [...this.unsynced, this.acknowledged];
    this.attempt(what, effects, action);
    if (this.options.durability === "normal") this.unsynced = before;
  }

  private place(): Place {
    const database = this.random.pick(this.acknowledged.living());
    return { database, branch: this.random.pick(database.living()) };
  }

  private connection({ database, branch }: Place): StoreConnection {
    const key = `${database.id}/${branch.id}`;
    let connection = this.connections.get(key);
    if (connection === undefined) {
      connection = this.store.connect(`${database.name}/${branch.name}`);
      this.connections.set(key, connection);
    }
    return connection;
  }

  private api(place: Place): { database: Database; branch: Branch } {
    const database = this.store.database(place.database.name);
    return { database, branch: database.branch(place.branch.name) };
  }

  private newName(prefix: string): string {
    return `${prefix}${++this.names}`;
  }

  private createDatabase(): void {
    if (this.acknowledged.databases.length >= DATABASES_MAX) return;
    const name = this.newName("db");
    const pageSize = this.random.pick([512, 1024, 4096]);
    this.attempt(`create ${name} (${pageSize})`, [(model) => model.createDatabase(name)], () => {
      this.store.createDatabase(name, { pageSize });
    });
  }

  private renameDatabase({ database }: Place): void {
    const name = this.newName("db");
    const effect: Effect = (model) => {
      model.database(database.id).name = name;
    };
    this.attempt(`rename ${database.name} to ${name}`, [effect], () => {
      this.store.database(database.name).rename(name);
    });
  }

  private deleteDatabase({ database }: Place): void {
    if (database.living().some(({ isProtected }) => isProtected)) return;
    const effect: Effect = (model) => {
      model.database(database.id).isDeleted = true;
    };
    this.attempt(`delete ${database.name}`, [effect], () => {
      this.store.database(database.name).delete();
    });
  }

  private undeleteDatabase(): void {
    const database = this.acknowledged.databases.find(({ isDeleted }) => isDeleted);
    if (database === undefined) return;
    const effect: Effect = (model) => {
      model.database(database.id).isDeleted = false;
    };
    this.attempt(`undelete ${database.name}`, [effect], () => {
      this.store.undeleteDatabase(database.name);
    });
  }

  /** The version that the next commit gets. */
  private nextVersion({ database }: Place): number {
    return this.store.database(database.name).version + 1;
  }

  private commitEffect(place: Place, version: number, rows: Rows | null): Effect {
    const { database, branch } = place;
    return (model) => model.database(database.id).commit(branch.id, version, rows);
  }

  private createTable(place: Place): void {
    const effect = this.commitEffect(place, this.nextVersion(place), new Map());
    this.commit(`create table on ${label(place)}`, [effect], () => {
      this.connection(place).exec(`BEGIN; ${SCHEMA} COMMIT`);
    });
  }

  private write(place: Place): void {
    const rows = new Map(place.database.rows(place.branch));
    const changes = this.changes(rows, this.random.integer(1, 6), 300);
    const effect = this.commitEffect(place, this.nextVersion(place), sorted(rows));
    this.commit(`write on ${label(place)}`, [effect], () => {
      const connection = this.connection(place);
      this.expectHead(connection, place);
      connection.transaction(() => apply(connection, "main", changes))();
    });
  }

  private expectHead(connection: StoreConnection, place: Place): void {
    expectRows(readRows(connection), place.database.rows(place.branch), label(place));
  }

  /** More than fits in memory (transactionBytesMax), with spills from SQLite's cache and a savepoint undone. */
  private writeMuch(place: Place): void {
    const { random } = this;
    const rows = new Map(place.database.rows(place.branch));
    const changes = this.changes(rows, random.integer(60, 120), 900);
    const undone = this.changes(new Map(rows), 30, 900);
    const later = this.changes(rows, 10, 100);
    const effect = this.commitEffect(place, this.nextVersion(place), sorted(rows));
    this.commit(`write much on ${label(place)}`, [effect], () => {
      const connection = this.connection(place);
      connection.pragma(`cache_size=${random.pick([4, 20, 2000])}`);
      connection.transaction(() => {
        apply(connection, "main", changes);
        connection.exec("SAVEPOINT inner");
        apply(connection, "main", undone);
        connection.exec("ROLLBACK TO inner");
        apply(connection, "main", later);
      })();
    });
  }

  private rollBack(place: Place): void {
    const changes = this.changes(
      new Map(place.database.rows(place.branch)),
      this.random.integer(5, 80),
      600,
    );
    this.commit(`roll back on ${label(place)}`, [], () => {
      const connection = this.connection(place);
      connection.pragma(`cache_size=${this.random.pick([4, 2000])}`);
      connection.exec("BEGIN");
      apply(connection, "main", changes);
      connection.exec("ROLLBACK");
      this.expectHead(connection, place);
    });
  }

  /** One transaction on two branches, of one database or two: all or nothing. */
  private writeOnTwo(place: Place): void {
    const other = this.place();
    const isSame = other.database === place.database && other.branch === place.branch;
    if (isSame || other.database.rows(other.branch) === null) return;
    if (place.database.rows(place.branch) === null) return;
    const rows = [
      new Map(place.database.rows(place.branch)),
      new Map(other.database.rows(other.branch)),
    ] as const;
    const changes = [this.changes(rows[0], 3, 300), this.changes(rows[1], 3, 300)] as const;
    const version = this.nextVersion(place);
    const otherVersion = other.database === place.database ? version + 1 : this.nextVersion(other);
    const both: Effect = (model) => {
      this.commitEffect(place, version, sorted(rows[0]))(model);
      this.commitEffect(other, otherVersion, sorted(rows[1]))(model);
    };
    this.commit(`write on ${label(place)} and ${label(other)}`, [both], () => {
      const connection = this.connection(place);
      connection.exec(`ATTACH '${label(other)}' AS other`);
      try {
        connection.transaction(() => {
          apply(connection, "main", changes[0]);
          apply(connection, "other", changes[1]);
        })();
      } finally {
        connection.exec("DETACH other");
      }
    });
  }

  /** A point of the database's past, and the revision that names it. */
  private revision({ database }: Place): {
    text: string;
    branch: ModelBranch;
    point: { line: number; version: number };
  } {
    const { random } = this;
    const branch = random.pick(database.living());
    const text = `${database.name}/${branch.name}`;
    const [tag] = database.tags.keys();
    if (tag !== undefined && random.chance(0.15)) {
      const main = database.living().find(({ name }) => name === "main")!;
      return { text: `${database.name}@${tag}`, branch: main, point: database.tags.get(tag)! };
    }
    const old = random.chance(0.4) ? null : database.pickVersion(branch, random);
    if (old === null) return { text, branch, point: database.head(branch) };
    return { text: `${text}@${old.version}`, branch, point: old.point };
  }

  private fork(place: Place): void {
    if (place.database.living().length >= BRANCHES_MAX) return;
    const name = this.newName("b");
    const { text, branch, point } = this.revision(place);
    const from = pointOf(place.database, point);
    const effect: Effect = (model) => model.database(place.database.id).fork(name, branch.id, from);
    this.attempt(`fork ${name} from ${text}`, [effect], () => {
      this.store.database(place.database.name).createBranch(name, { from: text });
    });
  }

  private reset(place: Place): void {
    if (place.branch.isProtected) return;
    const { text, point } = this.revision(place);
    const to = pointOf(place.database, point);
    const effect: Effect = (model) =>
      model.database(place.database.id).reset(place.branch.id, to, null);
    this.attempt(`reset ${label(place)} to ${text}`, [effect], () => {
      this.api(place).branch.reset({ to: text });
    });
  }

  private restore(place: Place): void {
    if (place.branch.isProtected || place.database.living().length >= BRANCHES_MAX) return;
    const { text, point } = this.revision(place);
    const to = pointOf(place.database, point);
    const preserveAs = this.newName("before");
    const effect: Effect = (model) =>
      model.database(place.database.id).reset(place.branch.id, to, preserveAs);
    this.attempt(`restore ${label(place)} to ${text}`, [effect], () => {
      this.api(place).branch.restore({ to: text, preserveAs });
    });
  }

  private tag(place: Place): void {
    const { database } = place;
    const [existing] = database.tags.keys();
    if (existing !== undefined && database.tags.size > 2) {
      const remove: Effect = (model) => model.database(database.id).setTag(existing, null);
      this.attempt(`delete tag ${existing}`, [remove], () => {
        this.store.database(database.name).deleteTag(existing);
      });
      return;
    }
    const name = this.newName("tag");
    const { text, point } = this.revision(place);
    const target = pointOf(database, point);
    const add: Effect = (model) => model.database(database.id).setTag(name, target);
    this.attempt(`tag ${name} at ${text}`, [add], () => {
      this.store.database(database.name).createTag(name, { at: text });
    });
  }

  private rename(place: Place): void {
    if (place.branch.name === "main") return;
    const name = this.newName("renamed/b");
    const effect: Effect = (model) =>
      model.database(place.database.id).rename(place.branch.id, name);
    this.attempt(`rename ${label(place)} to ${name}`, [effect], () => {
      this.api(place).branch.rename(name);
    });
  }

  private delete(place: Place): void {
    const { database, branch } = place;
    const hasChildren = database.living().some(({ parent }) => parent === branch.id);
    if (branch.name === "main" || branch.isProtected || hasChildren) return;
    const effect: Effect = (model) => model.database(database.id).delete(branch.id);
    this.attempt(`delete ${label(place)}`, [effect], () => {
      this.api(place).branch.delete();
      this.forget(place);
    });
  }

  private undelete({ database }: Place): void {
    const gone = database.branches.find(
      ({ isDeleted, name }) => isDeleted && database.living().every((other) => other.name !== name),
    );
    if (gone === undefined || database.living().length >= BRANCHES_MAX) return;
    const effect: Effect = (model) => model.database(database.id).undelete(gone.name);
    this.attempt(`undelete ${database.name}/${gone.name}`, [effect], () => {
      this.store.database(database.name).undeleteBranch(gone.name);
    });
  }

  private protect(place: Place): void {
    const isProtected = !place.branch.isProtected;
    const effect: Effect = (model) =>
      model.database(place.database.id).protect(place.branch.id, isProtected);
    this.attempt(`protect ${label(place)}: ${isProtected}`, [effect], () => {
      const { branch } = this.api(place);
      if (isProtected) branch.protect();
      else branch.unprotect();
    });
  }

  private vacuum(place: Place): void {
    const rows = place.database.rows(place.branch);
    const effect = this.commitEffect(place, this.nextVersion(place), rows);
    this.commit(`vacuum ${label(place)}`, [effect], () => {
      this.connection(place).exec("VACUUM");
    });
  }

  private checkpoint(): void {
    this.attempt("checkpoint", [], () => this.store.checkpoint());
  }

  private rotateKey(): void {
    const [key] = this.keys;
    if (key === null || key === undefined) return;
    const fresh = Buffer.from(this.random.bytes(32)).toString("hex");
    this.keys = [...this.keys, fresh];
    this.attempt("rotate key", [], () => this.store.rotateKey(fresh));
    this.keys = [fresh];
  }

  private reopen(): void {
    this.attempt("reopen", [], () => {
      this.store.close();
      this.connections.clear();
      this.openStore = this.open();
    });
  }

  private forget({ database, branch }: Place): void {
    const key = `${database.id}/${branch.id}`;
    this.connections.get(key)?.close();
    this.connections.delete(key);
  }

  /** Changes `rows` and returns the changes: an id with its new value, or null to delete it. */
  private changes(rows: Map<number, string>, count: number, lengthMax: number): Changes {
    const { random } = this;
    const changes: [number, Item | null][] = [];
    for (let index = 0; index < count; index++) {
      const id = random.integer(1, IDS);
      // The first one always changes something: a transaction without changes makes no version.
      const item = index > 0 && random.chance(0.25) ? null : newItem(random, lengthMax);
      changes.push([id, item]);
      if (item === null) rows.delete(id);
      else rows.set(id, `${item.value}/${item.note}`);
    }
    return changes;
  }
}

interface Item {
  readonly value: string;
  readonly note: string;
}

type Changes = readonly (readonly [number, Item | null])[];

function newItem(random: Random, lengthMax: number): Item {
  const value = random.nextUint32().toString(36);
  const isRepetitive = random.chance(0.5);
  const length = random.integer(0, lengthMax);
  let note = "";
  while (note.length < length) note += isRepetitive ? value : random.nextUint32().toString(36);
  return { value, note: note.slice(0, length) };
}

function apply(connection: StoreConnection, schema: string, changes: Changes): void {
  const put = connection.prepare(
    `INSERT INTO ${schema}.item(id, value, note) VALUES (?, ?, ?)
     ON CONFLICT(id) DO UPDATE SET value = excluded.value, note = excluded.note`,
  );
  const remove = connection.prepare(`DELETE FROM ${schema}.item WHERE id = ?`);
  for (const [id, item] of changes) {
    if (item === null) remove.run(id);
    else put.run(id, item.value, item.note);
  }
}

function label({ database, branch }: Place): string {
  return `${database.name}/${branch.name}`;
}

/** A tag or branch at "version 5" names the commit that this was, not what later becomes of it. */
function pointOf(
  database: ModelDatabase,
  point: { line: number; version: number },
): { line: number; version: number } {
  return { line: point.line, version: Math.min(point.version, database.version) };
}

function sorted(rows: ReadonlyMap<number, string>): Rows {
  return new Map([...rows].sort(([left], [right]) => left - right));
}
