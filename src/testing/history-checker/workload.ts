/**
 * Random transactions from a seed, to run against any store: lists, registers and rows, mixed as asked for. Every write has a
 * value or key of its own (H1 of history.ts).
 *
 * W1. A list or register gets `writesPerKeyMax` writes, a range of rows as many inserts, then a fresh one takes its place:
 *     reads stay short, and there is always something that everybody is after.
 */
import type { Random } from "../random.ts";
import type { Operation } from "./history.ts";

/** An operation before it was done: without its result. */
export type PlannedOperation =
  | { readonly kind: "append" | "write"; readonly key: string; readonly value: number }
  | { readonly kind: "read-list" | "read-register" | "insert" | "delete"; readonly key: string }
  | { readonly kind: "scan"; readonly prefix: string };

type OperationKind = Operation["kind"];

export interface WorkloadOptions {
  /** How often each kind is chosen, relative to the others; none where it is left out. */
  readonly mix: { readonly [kind in OperationKind]?: number };
  /** Lists, and as many registers, in use at a time. */
  readonly keyCount?: number;
  /** "hot": half of all operations are on the first key, a quarter on the second, and so on. */
  readonly distribution?: "uniform" | "hot";
  readonly writesPerKeyMax?: number;
  /** Operations of a transaction: 1 to this many. */
  readonly operationsMax?: number;
  /** Ranges of rows in use at a time. */
  readonly prefixCount?: number;
}

export const LIST_APPEND: WorkloadOptions["mix"] = { append: 1, "read-list": 1 };
export const REGISTERS: WorkloadOptions["mix"] = { write: 1, "read-register": 1 };
export const SCANS: WorkloadOptions["mix"] = { insert: 2, delete: 1, scan: 2 };

interface Slot {
  key: string;
  writes: number;
}

/** Rows with a common prefix. */
interface Range {
  prefix: string;
  rows: string[];
}

export class Workload {
  readonly #random: Random;
  readonly #kinds: readonly (readonly [OperationKind, number])[];
  readonly #weight: number;
  readonly #options: Required<Omit<WorkloadOptions, "mix">>;
  readonly #lists: Slot[];
  readonly #registers: Slot[];
  readonly #ranges: Range[];
  readonly #used: {
    readonly lists: Set<string>;
    readonly registers: Set<string>;
    readonly prefixes: Set<string>;
  };
  #value = 0;

  constructor(random: Random, options: WorkloadOptions) {
    const { mix, ...rest } = options;
    this.#random = random;
    this.#options = {
      keyCount: 8,
      distribution: "uniform",
      writesPerKeyMax: 40,
      operationsMax: 5,
      prefixCount: 2,
      ...rest,
    };
    this.#kinds = KINDS.map((kind) => [kind, mix[kind] ?? 0] as const);
    this.#weight = this.#kinds.reduce((sum, [, weight]) => sum + weight, 0);
    const { keyCount, prefixCount } = this.#options;
    const slots = (name: string): Slot[] =>
      Array.from({ length: keyCount }, (_, slot) => ({ key: `${name}${slot}.0`, writes: 0 }));
    this.#lists = slots("l");
    this.#registers = slots("r");
    this.#ranges = Array.from({ length: prefixCount }, (_, number) => ({
      prefix: `s${number}.0.`,
      rows: [],
    }));
    this.#used = { lists: new Set(), registers: new Set(), prefixes: new Set() };
  }

  transaction(): PlannedOperation[] {
    const count = this.#random.integer(1, this.#options.operationsMax);
    return Array.from({ length: count }, () => this.#operation());
  }

  /** Reads of everything that was planned so far, a few objects per transaction. */
  finalReads(): PlannedOperation[][] {
    const reads: PlannedOperation[] = [];
    for (const key of this.#used.lists) reads.push({ kind: "read-list", key });
    for (const key of this.#used.registers) reads.push({ kind: "read-register", key });
    for (const prefix of this.#used.prefixes) reads.push({ kind: "scan", prefix });
    const transactions: PlannedOperation[][] = [];
    for (let start = 0; start < reads.length; start += FINAL_READS) {
      transactions.push(reads.slice(start, start + FINAL_READS));
    }
    return transactions;
  }

  #operation(): PlannedOperation {
    const kind = this.#kind();
    switch (kind) {
      case "append": {
        const key = this.#key(this.#lists, this.#used.lists, true);
        return { kind, key, value: ++this.#value };
      }
      case "write": {
        const key = this.#key(this.#registers, this.#used.registers, true);
        return { kind, key, value: ++this.#value };
      }
      case "read-list":
        return { kind, key: this.#key(this.#lists, this.#used.lists, false) };
      case "read-register":
        return { kind, key: this.#key(this.#registers, this.#used.registers, false) };
      case "insert": {
        const range = this.#range(true);
        const key = `${range.prefix}${++this.#value}`;
        range.rows.push(key);
        return { kind, key };
      }
      case "delete": {
        const { prefix, rows } = this.#range(false);
        if (rows.length === 0) return { kind: "scan", prefix };
        return { kind, key: this.#random.pick(rows) };
      }
      case "scan":
        return { kind, prefix: this.#range(false).prefix };
    }
  }

  #kind(): OperationKind {
    let rest = this.#random.next() * this.#weight;
    for (const [kind, weight] of this.#kinds) {
      rest -= weight;
      if (rest < 0) return kind;
    }
    return this.#kinds.findLast(([, weight]) => weight > 0)![0];
  }

  #key(slots: readonly Slot[], used: Set<string>, isWrite: boolean): string {
    const slot = slots[this.#slot(slots.length)]!;
    if (isWrite && ++slot.writes > this.#options.writesPerKeyMax) {
      const [name, generation] = slot.key.split(".");
      slot.key = `${name}.${Number(generation) + 1}`;
      slot.writes = 1;
    }
    used.add(slot.key);
    return slot.key;
  }

  #slot(count: number): number {
    if (this.#options.distribution === "uniform") return this.#random.integer(0, count - 1);
    let slot = 0;
    while (slot < count - 1 && this.#random.chance(0.5)) slot++;
    return slot;
  }

  #range(isInsert: boolean): Range {
    const range = this.#random.pick(this.#ranges);
    if (isInsert && range.rows.length >= this.#options.writesPerKeyMax) {
      const [name, generation] = range.prefix.split(".");
      range.prefix = `${name}.${Number(generation) + 1}.`;
      range.rows = [];
    }
    this.#used.prefixes.add(range.prefix);
    return range;
  }
}

const FINAL_READS = 20;
const KINDS: readonly OperationKind[] = [
  "append",
  "read-list",
  "write",
  "read-register",
  "insert",
  "delete",
  "scan",
];
