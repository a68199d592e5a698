/**
 * Dependencies over lists. The longest committed read of a list is the order of its writes; every other read must be a
 * prefix of it. The reader's own appends at the end do not count: where they end up is for others to see.
 *
 * L1. What a read adds to its transaction's own appends is a version of others: the last of its writers came before the
 *     reader, the next writer comes after it.
 * L2. A committed append that no read shows came after all that are shown: they are prefixes of one list. At the
 *     end, when final reads lack it, it is lost instead, and nothing is concluded from it.
 */
import { EdgeKind, EdgeTargets, type DependencyGraph } from "./dependency-graph.ts";
import type { Findings } from "./findings.ts";
import type { HistoryIndex, ListObject } from "./history.ts";

interface ListRead {
  readonly reader: number;
  readonly values: readonly number[];
  /** The appends of the reader to this list before the read. */
  readonly ownBefore: readonly number[];
  readonly isFinal: boolean;
}

/** A read's external version: how many values of the order it shows, without the reader's own at the end. */
interface Version {
  readonly reader: number;
  readonly length: number;
}

export function addListDependencies(
  index: HistoryIndex,
  graph: DependencyGraph,
  findings: Findings,
): void {
  for (const [key, { reads, appends }] of listAccesses(index)) {
    const list = index.lists.get(key) ?? { key, writers: new Map() };
    new ListOrder(index, graph, findings, list).add(reads, appends);
  }
}

interface ListAccesses {
  readonly reads: ListRead[];
  /** Of each transaction, in its order. */
  readonly appends: Map<number, number[]>;
}

function listAccesses(index: HistoryIndex): Map<string, ListAccesses> {
  const all = new Map<string, ListAccesses>();
  for (const [number, transaction] of index.transactions.entries()) {
    for (const operation of transaction.operations) {
      if (operation.kind !== "append" && operation.kind !== "read-list") continue;
      let of = all.get(operation.key);
      if (of === undefined) all.set(operation.key, (of = { reads: [], appends: new Map() }));
      const own = of.appends.get(number) ?? [];
      if (operation.kind === "append") {
        own.push(operation.value);
        of.appends.set(number, own);
      } else if (index.isCommitted[number] === true) {
        const isFinal = transaction.final === true;
        of.reads.push({
          reader: number,
          values: operation.values,
          ownBefore: own.slice(),
          isFinal,
        });
      }
    }
  }
  return all;
}

class ListOrder {
  readonly #index: HistoryIndex;
  readonly #graph: DependencyGraph;
  readonly #findings: Findings;
  readonly #list: ListObject;

  constructor(index: HistoryIndex, graph: DependencyGraph, findings: Findings, list: ListObject) {
    this.#index = index;
    this.#graph = graph;
    this.#findings = findings;
    this.#list = list;
  }

  add(reads: readonly ListRead[], appends: ReadonlyMap<number, readonly number[]>): void {
    const sound = reads.filter((read) => this.#checkValues(read));
    let order: readonly number[] = [];
    for (const read of sound) {
      const { length } = this.#versionOf(read);
      if (length > order.length) order = read.values.slice(0, length);
    }
    const versions: Version[] = [];
    for (const read of sound) {
      this.#checkOwn(read, appends.get(read.reader) ?? []);
      if (this.#isPrefix(read, order)) versions.push(this.#versionOf(read));
    }
    this.#checkOrder(order, appends);
    this.#orderWrites(order);
    const hidden = this.#hiddenAppends(order, reads, appends);
    this.#orderHidden(order, hidden);
    for (const version of versions) this.#orderRead(version, order, appends);
    this.#orderReadsBeforeHidden(order, versions, hidden);
    this.#findLostUpdates(versions, order, appends);
  }

  #writer(value: number): number {
    return this.#list.writers.get(value)!;
  }

  /** Every value was written, once, and not by a transaction that failed. */
  #checkValues({ reader, values }: ListRead): boolean {
    const { key } = this.#list;
    const seen = new Set<number>();
    let isSound = true;
    for (const value of values) {
      const writer = this.#list.writers.get(value);
      if (writer === undefined) {
        isSound = false;
        this.#findings.add(
          "unwritten",
          key,
          [reader],
          () => `T${reader} read ${value} in list "${key}", which nobody appended`,
        );
      } else if (seen.has(value)) {
        isSound = false;
        this.#findings.add(
          "duplicate",
          key,
          [reader, writer],
          () => `T${reader} read ${value} twice in list "${key}"; T${writer} appended it once`,
        );
      } else if (this.#index.transactions[writer]!.status === "failed") {
        this.#findings.add(
          "G1a",
          key,
          [reader, writer],
          () => `T${reader} read ${value} in list "${key}", which T${writer} appended and failed`,
        );
      }
      seen.add(value);
    }
    return isSound;
  }

  #isPrefix(read: ListRead, order: readonly number[]): boolean {
    const { length } = this.#versionOf(read);
    const { reader, values } = read;
    let differs = 0;
    while (differs < length && values[differs] === order[differs]) differs++;
    if (differs === length) return true;
    const { key } = this.#list;
    this.#findings.add(
      "incompatible-order",
      key,
      [reader],
      () =>
        `T${reader} read list "${key}" with ${values[differs]} at position ${differs}, where another read has ${order[differs]}`,
    );
    return false;
  }

  /** A transaction sees what it appended before, and nothing of what it appends later. */
  #checkOwn({ reader, values, ownBefore }: ListRead, own: readonly number[]): void {
    const { key } = this.#list;
    const shown = values.filter((value) => this.#writer(value) === reader);
    const isSame =
      shown.length === ownBefore.length && shown.every((value, at) => value === ownBefore[at]);
    if (isSame) return;
    this.#findings.add(
      "internal",
      key,
      [reader],
      () =>
        `T${reader} had appended [${ownBefore.join(", ")}] of its [${own.join(", ")}] to list "${key}" and read [${shown.join(", ")}] of them`,
    );
  }

  #versionOf({ reader, values }: ListRead): Version {
    let length = values.length;
    while (length > 0 && this.#writer(values[length - 1]!) === reader) length--;
    return { reader, length };
  }

  /** Each transaction's appends stand together, whole; nothing committed stands on what failed. */
  #checkOrder(order: readonly number[], appends: ReadonlyMap<number, readonly number[]>): void {
    const { key } = this.#list;
    for (let position = 1; position < order.length; position++) {
      const before = order[position - 1]!;
      const earlier = this.#writer(before);
      const later = this.#writer(order[position]!);
      if (earlier === later || this.#index.isCommitted[later] !== true) continue;
      const hasFailed = this.#index.transactions[earlier]!.status === "failed";
      if (!hasFailed && appends.get(earlier)?.at(-1) === before) continue;
      this.#findings.add(
        "dirty-update",
        key,
        [earlier, later],
        () =>
          `T${later} appended ${order[position]} to list "${key}" after ${before} of T${earlier}, which ${hasFailed ? "failed" : "was not its last append"}`,
      );
    }
  }

  #orderWrites(order: readonly number[]): void {
    let before: number | null = null;
    for (const value of order) {
      if (this.#index.isCommitted[this.#writer(value)] !== true) continue;
      if (before !== null) {
        const reason = { key: this.#list.key, from: before, to: value };
        this.#graph.addEdge(this.#writer(before), this.#writer(value), EdgeKind.writeWrite, reason);
      }
      before = value;
    }
  }

  #hiddenAppends(
    order: readonly number[],
    reads: readonly ListRead[],
    appends: ReadonlyMap<number, readonly number[]>,
  ): number[] {
    const { key } = this.#list;
    const shown = new Set(order);
    const finalReads = reads.filter(({ isFinal }) => isFinal);
    const finallyShown = new Set(finalReads.flatMap(({ values }) => values));
    const hidden: number[] = [];
    for (const [writer, values] of appends) {
      if (this.#index.isCommitted[writer] !== true) continue;
      for (const value of values) {
        if (finalReads.length > 0 && !finallyShown.has(value)) {
          const { status } = this.#index.transactions[writer]!;
          const why = status === "ok" ? "was acknowledged" : "is seen elsewhere";
          this.#findings.add(
            "lost-commit",
            key,
            [writer],
            () =>
              `${value} is not in list "${key}" at the end, although T${writer}, which appended it, ${why}`,
          );
        } else if (!shown.has(value)) hidden.push(value);
      }
    }
    return hidden;
  }

  #orderHidden(order: readonly number[], hidden: readonly number[]): void {
    const last = order.findLast((value) => this.#index.isCommitted[this.#writer(value)] === true);
    if (hidden.length === 0 || last === undefined) return;
    const reason = { key: this.#list.key, from: last, to: null };
    this.#targets(hidden).connectExcept(this.#writer(last), EdgeKind.writeWrite, reason);
  }

  #targets(values: readonly number[]): EdgeTargets {
    return new EdgeTargets(
      this.#graph,
      values.map((value) => this.#writer(value)),
      values.map((to) => ({ key: this.#list.key, from: null, to })),
    );
  }

  #orderRead(
    { reader, length }: Version,
    order: readonly number[],
    appends: ReadonlyMap<number, readonly number[]>,
  ): void {
    const { key } = this.#list;
    const last = order[length - 1] ?? null;
    if (last !== null) {
      const writer = this.#writer(last);
      if (this.#index.isCommitted[writer] === true) {
        const reason = { key, from: last, to: null };
        this.#graph.addEdge(writer, reader, EdgeKind.writeRead, reason);
      }
      const finalAppend = appends.get(writer)?.at(-1);
      if (finalAppend !== last && this.#index.transactions[writer]!.status !== "failed") {
        this.#findings.add(
          "G1b",
          key,
          [reader, writer],
          () =>
            `T${reader} read list "${key}" up to ${last}, before the last append (${finalAppend}) of T${writer}`,
        );
      }
    }
    let next = length;
    while (next < order.length && this.#index.isCommitted[this.#writer(order[next]!)] !== true)
      next++;
    if (next === order.length) return;
    const reason = { key, from: last, to: order[next]! };
    this.#graph.addEdge(reader, this.#writer(order[next]!), EdgeKind.readWrite, reason);
  }

  #orderReadsBeforeHidden(
    order: readonly number[],
    versions: readonly Version[],
    hidden: readonly number[],
  ): void {
    if (hidden.length === 0) return;
    const targets = this.#targets(hidden);
    for (const { reader, length } of versions) {
      let end = length;
      while (end < order.length && this.#writer(order[end]!) === reader) end++;
      if (end < order.length) continue;
      const reason = { key: this.#list.key, from: order[length - 1] ?? null, to: null };
      targets.connectExcept(reader, EdgeKind.readWrite, reason);
    }
  }

  #findLostUpdates(
    versions: readonly Version[],
    order: readonly number[],
    appends: ReadonlyMap<number, readonly number[]>,
  ): void {
    const { key } = this.#list;
    const replacedBy = new Map<number, number>();
    for (const { reader, length } of versions) {
      if (!appends.has(reader)) continue;
      const other = replacedBy.get(length);
      if (other === undefined) replacedBy.set(length, reader);
      if (other === undefined || other === reader) continue;
      this.#findings.add(
        "lost-update",
        key,
        [other, reader],
        () =>
          `T${other} and T${reader} both read list "${key}" up to ${order[length - 1] ?? "nothing"} and appended to it`,
      );
    }
  }
}
