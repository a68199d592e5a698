/**
 * Dependencies over registers. A read names the write that it saw; which write replaced which is known only in part.
 *
 * R1. Who reads a version and writes the register replaced that version: every other reader of it came before. So it is
 *     in every serial order; two who do are a lost update.
 * R2. Who reads null came before every write of others.
 * R3. What a final read shows was written last, and who read another version came before that write. A write that
 *     replaced the final version, directly or not (R1), is lost.
 * R4. Who reads a version came before every write that began when that version's had ended. That holds only in orders that
 *     keep to real time, so it is an edge of its own kind.
 * R5. Where the history has the order of a register's writes, that order holds, and R1 to R4 follow from it.
 */
import {
  EdgeKind,
  EdgeTargets,
  type DependencyGraph,
  type EdgeReason,
} from "./dependency-graph.ts";
import type { Findings } from "./findings.ts";
import type { HistoryIndex } from "./history.ts";

interface RegisterAccesses {
  /** What committed transactions read of others, in order; the value null is the version before all writes. */
  readonly reads: { readonly reader: number; readonly value: number | null }[];
  /** The last write of each transaction. */
  readonly written: Map<number, number>;
  /** Who read a version and wrote the register afterwards. */
  readonly replaced: Map<number | null, Set<number>>;
  finalValue: number | null | undefined;
}

export function addRegisterDependencies(
  index: HistoryIndex,
  graph: DependencyGraph,
  findings: Findings,
  orders: ReadonlyMap<string, readonly number[]>,
): void {
  const accesses = registerAccesses(index, findings);
  for (const [key, of] of accesses) {
    const register = new RegisterOrder(index, graph, findings, key, of);
    register.addReads();
    const order = orders.get(key);
    if (order === undefined) register.addInferredOrder();
    else register.addKnownOrder(order);
  }
}

function registerAccesses(index: HistoryIndex, findings: Findings): Map<string, RegisterAccesses> {
  const all = new Map<string, RegisterAccesses>();
  for (const [number, transaction] of index.transactions.entries()) {
    const own = new Map<string, number>();
    const seen = new Map<string, number | null>();
    for (const operation of transaction.operations) {
      if (operation.kind !== "write" && operation.kind !== "read-register") continue;
      const { key } = operation;
      let of = all.get(key);
      if (of === undefined) {
        of = { reads: [], written: new Map(), replaced: new Map(), finalValue: undefined };
        all.set(key, of);
      }
      if (operation.kind === "write") {
        own.set(key, operation.value);
        of.written.set(number, operation.value);
        const replaced = seen.get(key);
        if (replaced !== undefined && index.isCommitted[number] === true) {
          const writers = of.replaced.get(replaced);
          if (writers === undefined) of.replaced.set(replaced, new Set([number]));
          else writers.add(number);
        }
        continue;
      }
      if (index.isCommitted[number] !== true) continue;
      const expected = own.get(key);
      if (expected !== undefined) {
        if (expected === operation.value) continue;
        findings.add(
          "internal",
          key,
          [number],
          () =>
            `T${number} wrote ${expected} to register "${key}" and then read ${operation.value}`,
        );
      }
      if (seen.get(key) !== operation.value) {
        of.reads.push({ reader: number, value: operation.value });
      }
      if (!own.has(key)) seen.set(key, operation.value);
      if (transaction.final === true) of.finalValue = operation.value;
    }
  }
  return all;
}

class RegisterOrder {
  readonly #index: HistoryIndex;
  readonly #graph: DependencyGraph;
  readonly #findings: Findings;
  readonly #key: string;
  readonly #accesses: RegisterAccesses;
  readonly #readers: Map<number | null, number[]> = new Map();

  constructor(
    index: HistoryIndex,
    graph: DependencyGraph,
    findings: Findings,
    key: string,
    accesses: RegisterAccesses,
  ) {
    this.#index = index;
    this.#graph = graph;
    this.#findings = findings;
    this.#key = key;
    this.#accesses = accesses;
  }

  #writer(value: number): number | undefined {
    return this.#index.registers.get(this.#key)?.writers.get(value);
  }

  #isCommitted(transaction: number): boolean {
    return this.#index.isCommitted[transaction] === true;
  }

  /** The version that a transaction leaves: nobody else can read the others. */
  #isLeft(value: number): boolean {
    const writer = this.#writer(value);
    return writer !== undefined && this.#accesses.written.get(writer) === value;
  }

  addReads(): void {
    for (const { reader, value } of this.#accesses.reads) {
      if (value !== null && !this.#checkValue(reader, value)) continue;
      const readers = this.#readers.get(value);
      if (readers === undefined) this.#readers.set(value, [reader]);
      else readers.push(reader);
      if (value === null) continue;
      const reason = { key: this.#key, from: value, to: null };
      this.#graph.addEdge(this.#writer(value)!, reader, EdgeKind.writeRead, reason);
    }
    for (const [value, writers] of this.#accesses.replaced) {
      const [first, ...others] = writers;
      for (const other of others) {
        this.#findings.add(
          "lost-update",
          this.#key,
          [first!, other],
          () =>
            `T${first} and T${other} both read ${value} in register "${this.#key}" and replaced it`,
        );
      }
    }
  }

  #checkValue(reader: number, value: number): boolean {
    const key = this.#key;
    const writer = this.#writer(value);
    if (writer === undefined) {
      this.#findings.add(
        "unwritten",
        key,
        [reader],
        () => `T${reader} read ${value} in register "${key}", which nobody wrote`,
      );
      return false;
    }
    if (writer === reader) {
      this.#findings.add(
        "internal",
        key,
        [reader],
        () => `T${reader} read ${value} in register "${key}" when that was not its last write`,
      );
      return false;
    }
    if (!this.#isCommitted(writer)) {
      this.#findings.add(
        "G1a",
        key,
        [reader, writer],
        () => `T${reader} read ${value} in register "${key}", which T${writer} wrote and failed`,
      );
      this.#reportDirtyUpdate(reader, writer, value);
      return false;
    }
    if (!this.#isLeft(value)) {
      this.#findings.add(
        "G1b",
        key,
        [reader, writer],
        () =>
          `T${reader} read ${value} in register "${key}", which T${writer} overwrote with ${this.#accesses.written.get(writer)}`,
      );
      this.#reportDirtyUpdate(reader, writer, value);
    }
    return true;
  }

  #reportDirtyUpdate(reader: number, writer: number, value: number): void {
    if (this.#accesses.replaced.get(value)?.has(reader) !== true) return;
    this.#findings.add(
      "dirty-update",
      this.#key,
      [writer, reader],
      () =>
        `T${reader} replaced ${value} in register "${this.#key}", which T${writer} never committed`,
    );
  }

  addInferredOrder(): void {
    for (const [value, writers] of this.#accesses.replaced) {
      for (const writer of writers) {
        const reason = { key: this.#key, from: value, to: this.#accesses.written.get(writer)! };
        const replaced = value === null ? undefined : this.#writer(value);
        if (replaced !== undefined && this.#isCommitted(replaced)) {
          this.#graph.addEdge(replaced, writer, EdgeKind.writeWrite, reason);
        }
        for (const reader of this.#readers.get(value) ?? []) {
          this.#graph.addEdge(reader, writer, EdgeKind.readWrite, reason);
        }
      }
    }
    this.#orderInTime();
    const lost = this.#findLost();
    this.#orderBeforeAllWrites(lost);
    this.#orderBeforeFinal(lost);
  }

  /** Of the later writes only those that began before another later one had ended: the rest follows. */
  #orderInTime(): void {
    const { transactions } = this.#index;
    const writes = [...this.#accesses.written]
      .filter(([writer]) => this.#isCommitted(writer))
      .sort(([a], [b]) => transactions[a]!.invoked - transactions[b]!.invoked);
    for (const [value, readers] of this.#readers) {
      const writer = value === null ? undefined : this.#writer(value);
      if (writer === undefined || transactions[writer]!.status !== "ok") continue;
      const { completed } = transactions[writer]!;
      let low = 0;
      let high = writes.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (transactions[writes[middle]![0]]!.invoked <= completed) low = middle + 1;
        else high = middle;
      }
      let firstEnd = Infinity;
      for (; low < writes.length; low++) {
        const [later, to] = writes[low]!;
        const { invoked, completed: end, status } = transactions[later]!;
        if (invoked > firstEnd) break;
        if (status === "ok") firstEnd = Math.min(firstEnd, end);
        const reason = { key: this.#key, from: value, to };
        for (const reader of readers) {
          this.#graph.addEdge(reader, later, EdgeKind.realTimeReadWrite, reason);
        }
      }
    }
  }

  /** The acknowledged writes that are known to be later than what is there at the end. */
  #findLost(): ReadonlySet<number> {
    const { finalValue, replaced, written } = this.#accesses;
    const lost = new Set<number>();
    if (finalValue === undefined) return lost;
    const pending = [...(replaced.get(finalValue) ?? [])];
    if (finalValue === null) {
      pending.push(...[...written.keys()].filter((writer) => this.#isCommitted(writer)));
    }
    for (let writer = pending.pop(); writer !== undefined; writer = pending.pop()) {
      if (lost.has(writer)) continue;
      lost.add(writer);
      const value = written.get(writer)!;
      pending.push(...(replaced.get(value) ?? []));
    }
    for (const writer of lost) this.#reportLost(writer);
    return lost;
  }

  #reportLost(writer: number): void {
    const { finalValue, written } = this.#accesses;
    this.#findings.add(
      "lost-commit",
      this.#key,
      [writer],
      () =>
        `Register "${this.#key}" is ${finalValue} at the end, although T${writer}, which committed, replaced that with ${written.get(writer)}`,
    );
  }

  #orderBeforeAllWrites(lost: ReadonlySet<number>): void {
    const readers = this.#readers.get(null);
    if (readers === undefined) return;
    const writers = [...this.#accesses.written].filter(
      ([writer]) => this.#isCommitted(writer) && !lost.has(writer),
    );
    const targets = new EdgeTargets(
      this.#graph,
      writers.map(([writer]) => writer),
      writers.map(([, to]) => ({ key: this.#key, from: null, to })),
    );
    const reason: EdgeReason = { key: this.#key, from: null, to: null };
    for (const reader of readers) targets.connectExcept(reader, EdgeKind.readWrite, reason);
  }

  #orderBeforeFinal(lost: ReadonlySet<number>): void {
    const { finalValue, written } = this.#accesses;
    if (finalValue === undefined || finalValue === null || !this.#isLeft(finalValue)) return;
    const last = this.#writer(finalValue)!;
    if (!this.#isCommitted(last)) return;
    for (const [writer, from] of written) {
      if (!this.#isCommitted(writer) || lost.has(writer)) continue;
      const reason = { key: this.#key, from, to: finalValue };
      this.#graph.addEdge(writer, last, EdgeKind.writeWrite, reason);
    }
    for (const [value, readers] of this.#readers) {
      if (value === finalValue || value === null || lost.has(this.#writer(value)!)) continue;
      const reason = { key: this.#key, from: value, to: finalValue };
      for (const reader of readers) {
        if (!lost.has(reader)) this.#graph.addEdge(reader, last, EdgeKind.readWrite, reason);
      }
    }
  }

  /** Values of the order that failed, or that nobody knows of, are passed over; so are intermediate ones. */
  addKnownOrder(order: readonly number[]): void {
    const key = this.#key;
    const left = order.filter(
      (value) => this.#isLeft(value) && this.#isCommitted(this.#writer(value)!),
    );
    for (const [position, value] of left.entries()) {
      const next = left[position + 1];
      if (next === undefined) break;
      const writer = this.#writer(next)!;
      const reason = { key, from: value, to: next };
      this.#graph.addEdge(this.#writer(value)!, writer, EdgeKind.writeWrite, reason);
      for (const reader of this.#readers.get(value) ?? []) {
        this.#graph.addEdge(reader, writer, EdgeKind.readWrite, reason);
      }
    }
    const first = left[0];
    if (first !== undefined) {
      for (const reader of this.#readers.get(null) ?? []) {
        const reason = { key, from: null, to: first };
        this.#graph.addEdge(reader, this.#writer(first)!, EdgeKind.readWrite, reason);
      }
    }
    this.#checkKnownOrder(left);
  }

  #checkKnownOrder(left: readonly number[]): void {
    const ordered = new Set(left);
    const { finalValue, written } = this.#accesses;
    for (const [writer, value] of written) {
      if (!this.#isCommitted(writer) || ordered.has(value)) continue;
      this.#findings.add(
        "lost-commit",
        this.#key,
        [writer],
        () => `The order of register "${this.#key}" lacks ${value}, which T${writer} wrote`,
      );
    }
    const last = left.at(-1);
    if (finalValue !== undefined && last !== undefined && last !== finalValue) {
      this.#reportLost(this.#writer(last)!);
    }
  }
}
