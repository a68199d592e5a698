/**
 * What a store answered to its clients: transactions with their operations and results, when they began and ended, and
 * whether they took effect. Three kinds of objects, told apart by the operations on them:
 *
 *   lists      append(key, value), read-list(key) -> all values. A read shows the order of all writes before it.
 *   registers  write(key, value), read-register(key) -> value or null. The order of writes is known in part.
 *   rows       insert(key), delete(key) -> found, scan(prefix) -> keys. For predicates: a scan also reads what is not there.
 *
 * H1. A value is appended or written to its key once in the whole history, a row is inserted once, so that a read says
 *     whose write it saw. All objects begin empty; what is there at the start was put there by a transaction.
 * H2. Times come from one clock that never goes back: a transaction took effect, if at all, between `invoked` and
 *     `completed`; an unknown one at any time after `invoked`, or never.
 * H3. A transaction has the operations that were begun, in order; reads that gave no result are left out.
 */
export type Operation =
  | { readonly kind: "append"; readonly key: string; readonly value: number }
  | { readonly kind: "read-list"; readonly key: string; readonly values: readonly number[] }
  | { readonly kind: "write"; readonly key: string; readonly value: number }
  | { readonly kind: "read-register"; readonly key: string; readonly value: number | null }
  | { readonly kind: "insert"; readonly key: string }
  | { readonly kind: "delete"; readonly key: string; readonly found: boolean }
  | { readonly kind: "scan"; readonly prefix: string; readonly keys: readonly string[] };

/** ok: applied, and acknowledged. failed: certainly not applied. unknown: the answer was lost. */
export type OutcomeStatus = "ok" | "failed" | "unknown";

export interface Transaction {
  readonly client: number;
  readonly invoked: number;
  /** When the client had the answer. Without meaning when the outcome is unknown. */
  readonly completed: number;
  readonly status: OutcomeStatus;
  readonly operations: readonly Operation[];
  /** It ran after all others had ended: what it does not see is lost. */
  readonly final?: boolean;
}

export interface History {
  readonly transactions: readonly Transaction[];
  /** Of registers: all values in the order of their writes, where the store says it. */
  readonly registerOrders?: ReadonlyMap<string, readonly number[]>;
}

/** What a read saw of an object: who wrote it, and the transactions by number. */
export class HistoryIndex {
  readonly transactions: readonly Transaction[];
  readonly lists: ReadonlyMap<string, ListObject>;
  readonly registers: ReadonlyMap<string, RegisterObject>;
  readonly rows: ReadonlyMap<string, RowObject>;
  readonly operationCount: number;
  /** By transaction: it took effect, as acknowledged or because others saw it. */
  readonly isCommitted: readonly boolean[];

  constructor(history: History) {
    this.transactions = history.transactions;
    const lists = new Map<string, ListObject>();
    const registers = new Map<string, RegisterObject>();
    const rows = new Map<string, RowObject>();
    let operationCount = 0;
    for (const [number, transaction] of history.transactions.entries()) {
      checkTransaction(number, transaction);
      operationCount += transaction.operations.length;
      for (const operation of transaction.operations) {
        collectWrite(number, operation, transaction.status, { lists, registers, rows });
      }
    }
    this.lists = lists;
    this.registers = registers;
    this.rows = rows;
    this.operationCount = operationCount;
    this.isCommitted = whatTookEffect(this);
  }

  /** The transactions whose operation made what the read shows; writers unknown to the history are left out. */
  writersSeen(operation: Operation): number[] {
    const seen: (number | undefined)[] = [];
    if (operation.kind === "read-list") {
      const writers = this.lists.get(operation.key)?.writers;
      for (const value of operation.values) seen.push(writers?.get(value));
    } else if (operation.kind === "read-register" && operation.value !== null) {
      seen.push(this.registers.get(operation.key)?.writers.get(operation.value));
    } else if (operation.kind === "delete" && operation.found) {
      seen.push(this.rows.get(operation.key)?.inserter);
    } else if (operation.kind === "scan") {
      for (const key of operation.keys) seen.push(this.rows.get(key)?.inserter);
    }
    return seen.filter((writer) => writer !== undefined);
  }
}

/** A list: who appended each value. Values of one transaction are in its order. */
export interface ListObject {
  readonly key: string;
  readonly writers: Map<number, number>;
}

export interface RegisterObject {
  readonly key: string;
  readonly writers: Map<number, number>;
}

export interface RowObject {
  readonly key: string;
  inserter: number | undefined;
  /** The transactions that found the row and deleted it, or may have. */
  readonly deleters: number[];
}

interface Objects {
  readonly lists: Map<string, ListObject>;
  readonly registers: Map<string, RegisterObject>;
  readonly rows: Map<string, RowObject>;
}

function checkTransaction(number: number, { invoked, completed, status }: Transaction): void {
  const isOrdered = status === "unknown" || invoked <= completed;
  if (!Number.isFinite(invoked) || !isOrdered) {
    throw new RangeError(
      `Cannot check the history: transaction ${number} was invoked at ${invoked} and completed at ${completed}`,
    );
  }
}

function collectWrite(
  number: number,
  operation: Operation,
  status: OutcomeStatus,
  objects: Objects,
): void {
  switch (operation.kind) {
    case "append":
    case "write": {
      const map = operation.kind === "append" ? objects.lists : objects.registers;
      let object = map.get(operation.key);
      if (object === undefined) {
        map.set(operation.key, (object = { key: operation.key, writers: new Map() }));
      }
      if (object.writers.has(operation.value)) {
        throw new RangeError(
          `Cannot check the history: the value ${operation.value} goes to "${operation.key}" twice; give each write a value of its own`,
        );
      }
      object.writers.set(operation.value, number);
      return;
    }
    case "insert": {
      const row = rowOf(objects, operation.key);
      if (row.inserter !== undefined) {
        throw new RangeError(
          `Cannot check the history: the row "${operation.key}" is inserted twice; give each insert a key of its own`,
        );
      }
      row.inserter = number;
      return;
    }
    case "delete":
      if (operation.found && status !== "failed") {
        rowOf(objects, operation.key).deleters.push(number);
      }
      return;
    case "read-list":
    case "read-register":
    case "scan":
      return;
  }
}

function rowOf({ rows }: Objects, key: string): RowObject {
  let row = rows.get(key);
  if (row === undefined) rows.set(key, (row = { key, inserter: undefined, deleters: [] }));
  return row;
}

/** An unknown transaction took effect if one that did saw a write of it; that one's reads count from then on. */
function whatTookEffect(index: HistoryIndex): boolean[] {
  const isCommitted = index.transactions.map(({ status }) => status === "ok");
  if (!index.transactions.some(({ status }) => status === "unknown")) return isCommitted;
  const pending: number[] = [...isCommitted.keys()].filter((number) => isCommitted[number]);
  for (let number = pending.pop(); number !== undefined; number = pending.pop()) {
    for (const operation of index.transactions[number]!.operations) {
      for (const writer of index.writersSeen(operation)) {
        if (isCommitted[writer] === true) continue;
        if (index.transactions[writer]!.status !== "unknown") continue;
        isCommitted[writer] = true;
        pending.push(writer);
      }
    }
  }
  return isCommitted;
}
