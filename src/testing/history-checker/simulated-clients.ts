/**
 * A store in memory at each level of isolation, to show that the checker tells them apart. Between any two steps other
 * clients run.
 *
 *   serializable        fails when another one has committed to what it read or wrote since it began
 *   snapshot-isolation  reads from the state at the beginning; of two that write the same object one fails
 *   read-committed      each read from the newest committed state; its writes are applied at the commit
 *   read-uncommitted    every write is visible at once, and undone when the transaction fails
 */
import type { Random } from "../random.ts";
import type { Operation, OutcomeStatus } from "./history.ts";
import type { Client, Outcome } from "./run-workload.ts";
import type { PlannedOperation } from "./workload.ts";

export type SimulatedIsolation =
  | "serializable"
  | "snapshot-isolation"
  | "read-committed"
  | "read-uncommitted";

type Value = readonly number[] | number | boolean;
/** Objects by kind and key: "list l1", "register r1", "row s1.4". */
type State = ReadonlyMap<string, Value>;

interface Commit {
  readonly version: number;
  readonly written: ReadonlySet<string>;
}

export interface SimulatedStoreOptions {
  readonly isolation: SimulatedIsolation;
  readonly random: Random;
  /** Of all transactions: aborted by the store; answer lost, whether applied or not. */
  readonly failures?: number;
  readonly lostAnswers?: number;
}

export class SimulatedTransactionStore {
  readonly #options: SimulatedStoreOptions;
  #state: State = new Map();
  #version = 0;
  readonly #commits: Commit[] = [];

  constructor(options: SimulatedStoreOptions) {
    this.#options = options;
  }

  client(): Client {
    return { transact: (operations) => this.#transact(operations) };
  }

  async #transact(planned: readonly PlannedOperation[]): Promise<Outcome> {
    const { isolation, random, failures = 0, lostAnswers = 0 } = this.#options;
    const version = this.#version;
    const work = new SimulatedTransaction(this.#state);
    for (const operation of planned) {
      await otherClients(random);
      if (isolation === "read-uncommitted" || isolation === "read-committed") {
        work.rebase(this.#state);
      }
      work.apply(operation);
      if (isolation === "read-uncommitted") this.#state = work.state();
    }
    await otherClients(random);
    const isLost = random.chance(lostAnswers);
    const isApplied = !random.chance(isLost ? 0.5 : failures) && this.#isValid(work, version);
    if (isApplied) this.#apply(work);
    else if (isolation === "read-uncommitted") this.#state = work.undo(this.#state);
    const status: OutcomeStatus = isLost ? "unknown" : isApplied ? "ok" : "failed";
    return { status, operations: work.done };
  }

  #isValid(work: SimulatedTransaction, version: number): boolean {
    const { isolation } = this.#options;
    if (isolation !== "serializable" && isolation !== "snapshot-isolation") return true;
    const since = this.#commits.filter((commit) => commit.version > version);
    const touches = (written: string): boolean =>
      work.writes.has(written) ||
      (isolation === "serializable" &&
        (work.reads.has(written) ||
          [...work.scans].some((prefix) => written.startsWith(`row ${prefix}`))));
    return !since.some(({ written }) => [...written].some(touches));
  }

  #apply(work: SimulatedTransaction): void {
    work.rebase(this.#state);
    this.#state = work.state();
    this.#commits.push({ version: ++this.#version, written: new Set(work.writes.keys()) });
    if (this.#commits.length > COMMITS_KEPT) this.#commits.shift();
  }
}

/** More than any transaction sees begin and end while it runs. */
const COMMITS_KEPT = 1000;

class SimulatedTransaction {
  readonly done: Operation[] = [];
  readonly reads: Set<string> = new Set();
  readonly scans: Set<string> = new Set();
  /** What it does to each object, in order. */
  readonly writes: Map<string, PlannedOperation[]> = new Map();
  #base: State;

  constructor(base: State) {
    this.#base = base;
  }

  /** From now on it reads the committed state given, with its own writes on top. */
  rebase(state: State): void {
    this.#base = state;
  }

  state(): State {
    const state = new Map(this.#base);
    for (const object of this.writes.keys()) {
      const value = this.#read(object);
      if (value === undefined) state.delete(object);
      else state.set(object, value);
    }
    return state;
  }

  /** What is there without its own values. */
  undo(current: State): State {
    const state = new Map(current);
    for (const [object, operations] of this.writes) {
      const own = new Set(operations.map((each) => ("value" in each ? each.value : null)));
      const value = state.get(object);
      if (Array.isArray(value)) {
        state.set(
          object,
          value.filter((each) => !own.has(each)),
        );
      } else if (typeof value !== "number" || own.has(value)) state.delete(object);
    }
    return state;
  }

  #read(object: string): Value | undefined {
    let value = this.#base.get(object);
    for (const operation of this.writes.get(object) ?? []) value = written(value, operation);
    return value;
  }

  apply(operation: PlannedOperation): void {
    switch (operation.kind) {
      case "append":
        this.#write(`list ${operation.key}`, operation);
        this.done.push({ kind: "append", key: operation.key, value: operation.value });
        return;
      case "write":
        this.#write(`register ${operation.key}`, operation);
        this.done.push({ kind: "write", key: operation.key, value: operation.value });
        return;
      case "insert":
        this.#write(`row ${operation.key}`, operation);
        this.done.push({ kind: "insert", key: operation.key });
        return;
      case "delete": {
        const object = `row ${operation.key}`;
        const found = this.#read(object) !== undefined;
        this.reads.add(object);
        if (found) this.#write(object, operation);
        this.done.push({ kind: "delete", key: operation.key, found });
        return;
      }
      case "read-list": {
        const object = `list ${operation.key}`;
        const value = this.#read(object);
        this.reads.add(object);
        const values = Array.isArray(value) ? [...value] : [];
        this.done.push({ kind: "read-list", key: operation.key, values });
        return;
      }
      case "read-register": {
        const object = `register ${operation.key}`;
        const value = this.#read(object);
        this.reads.add(object);
        const number = typeof value === "number" ? value : null;
        this.done.push({ kind: "read-register", key: operation.key, value: number });
        return;
      }
      case "scan": {
        this.scans.add(operation.prefix);
        const rows = [...this.state().keys()].filter((key) =>
          key.startsWith(`row ${operation.prefix}`),
        );
        const keys = rows.map((row) => row.slice("row ".length)).sort();
        this.done.push({ kind: "scan", prefix: operation.prefix, keys });
      }
    }
  }

  #write(object: string, operation: PlannedOperation): void {
    const writes = this.writes.get(object);
    if (writes === undefined) this.writes.set(object, [operation]);
    else writes.push(operation);
  }
}

function written(value: Value | undefined, operation: PlannedOperation): Value | undefined {
  switch (operation.kind) {
    case "append": {
      const list = Array.isArray(value) ? value : [];
      return list.includes(operation.value) ? list : [...list, operation.value];
    }
    case "write":
      return operation.value;
    case "insert":
      return true;
    case "delete":
      return undefined;
    case "read-list":
    case "read-register":
    case "scan":
      return value;
  }
}

/** Lets a few promises of others go first. */
async function otherClients(random: Random): Promise<void> {
  for (let turns = random.integer(0, 4); turns > 0; turns--) await Promise.resolve();
}
