/**
 * Histories that are right by construction: a workload done one transaction after another, each at a point within its own
 * time, while the times of many overlap. Some fail, some lose their answer, whether they took effect or not.
 */
import type { Random } from "../random.ts";
import type { History, Operation, OutcomeStatus, Transaction } from "./history.ts";
import type { PlannedOperation, Workload } from "./workload.ts";

export interface SerialHistoryOptions {
  readonly random: Random;
  readonly workload: Workload;
  readonly transactionCount: number;
  readonly clientCount: number;
  /** Shares of the transactions. */
  readonly failed?: number;
  readonly unknown?: number;
}

/** Between the points at which two transactions take effect. */
const STEP = 10;

export function makeSerialHistory(options: SerialHistoryOptions): History {
  const { random, workload, transactionCount, clientCount, failed = 0, unknown = 0 } = options;
  const state = new SerialState();
  const transactions: Transaction[] = [];
  const busyUntil: number[] = Array.from({ length: clientCount }, () => 0);
  for (let number = 1; number <= transactionCount; number++) {
    const point = number * STEP;
    const first = random.integer(0, clientCount - 1);
    let client = first;
    for (let tries = 1; tries < clientCount && busyUntil[client]! >= point - 1; tries++) {
      client = (first + tries) % clientCount;
    }
    if (busyUntil[client]! >= point - 1) client = busyUntil.push(0) - 1;
    const spread = STEP * clientCount;
    const invoked = Math.max(busyUntil[client]! + 1, point - random.integer(1, spread));
    const completed = point + random.integer(1, spread);
    const isUnknown = random.chance(unknown);
    const isFailed = random.chance(isUnknown ? 0.5 : failed);
    const status: OutcomeStatus = isUnknown ? "unknown" : isFailed ? "failed" : "ok";
    const operations = state.transact(workload.transaction(), !isFailed);
    busyUntil[client] = isUnknown ? Infinity : completed;
    transactions.push({ client, invoked, completed, status, operations });
  }
  let end = (transactionCount + 2 * clientCount) * STEP;
  for (const planned of workload.finalReads()) {
    const operations = state.transact(planned, true);
    const times = { invoked: ++end, completed: ++end };
    transactions.push({ client: -1, ...times, status: "ok", operations, final: true });
  }
  return { transactions };
}

class SerialState {
  readonly #lists: Map<string, number[]> = new Map();
  readonly #registers: Map<string, number> = new Map();
  /** By what comes before the last point of their keys: a workload scans no other prefixes. */
  readonly #rows: Map<string, Set<string>> = new Map();

  transact(planned: readonly PlannedOperation[], isApplied: boolean): Operation[] {
    const undo: (() => void)[] = [];
    const operations = planned.map((operation) => this.#apply(operation, undo));
    if (!isApplied) for (const step of undo.reverse()) step();
    return operations;
  }

  #apply(operation: PlannedOperation, undo: (() => void)[]): Operation {
    switch (operation.kind) {
      case "append": {
        const list = this.#lists.get(operation.key) ?? [];
        this.#lists.set(operation.key, list);
        list.push(operation.value);
        undo.push(() => list.pop());
        return { kind: "append", key: operation.key, value: operation.value };
      }
      case "write": {
        const { key, value } = operation;
        const before = this.#registers.get(key);
        this.#registers.set(key, value);
        undo.push(() => {
          if (before === undefined) this.#registers.delete(key);
          else this.#registers.set(key, before);
        });
        return { kind: "write", key, value };
      }
      case "insert": {
        const { key } = operation;
        const rows = this.#range(key);
        rows.add(key);
        undo.push(() => rows.delete(key));
        return { kind: "insert", key };
      }
      case "delete": {
        const { key } = operation;
        const rows = this.#range(key);
        const found = rows.delete(key);
        if (found) undo.push(() => rows.add(key));
        return { kind: "delete", key, found };
      }
      case "read-list": {
        const values = this.#lists.get(operation.key)?.slice() ?? [];
        return { kind: "read-list", key: operation.key, values };
      }
      case "read-register": {
        const value = this.#registers.get(operation.key) ?? null;
        return { kind: "read-register", key: operation.key, value };
      }
      case "scan": {
        const { prefix } = operation;
        return { kind: "scan", prefix, keys: [...this.#range(prefix)].sort() };
      }
    }
  }

  #range(key: string): Set<string> {
    const prefix = key.slice(0, key.lastIndexOf(".") + 1);
    let rows = this.#rows.get(prefix);
    if (rows === undefined) this.#rows.set(prefix, (rows = new Set()));
    return rows;
  }
}
