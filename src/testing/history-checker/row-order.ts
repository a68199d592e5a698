/**
 * Dependencies over rows: a row is absent, then there, then deleted, each once. Scans read rows that are there, and
 * by their prefix also those that are not.
 *
 * S1. Who sees a row came after its insert, and before its delete.
 * S2. Who scans a prefix and lacks a row under it came before the insert, if nobody deleted the row or may have; that is an
 *     anti-dependency over a predicate. If somebody did, the scan can be before or after, and nothing is concluded.
 * S3. Two who found and deleted the same row both replaced its one version: a lost update.
 */
import { EdgeKind, EdgeTargets, type DependencyGraph } from "./dependency-graph.ts";
import type { Findings } from "./findings.ts";
import type { HistoryIndex, Operation, RowObject } from "./history.ts";

export function addRowDependencies(
  index: HistoryIndex,
  graph: DependencyGraph,
  findings: Findings,
): void {
  const rows = new RowOrder(index, graph, findings);
  for (const row of index.rows.values()) rows.addRow(row);
  for (const [number, transaction] of index.transactions.entries()) {
    if (index.isCommitted[number] === true) rows.addReads(number, transaction.final === true);
  }
}

/** The rows under a prefix that were inserted and never deleted. */
interface LastingRows {
  readonly keys: readonly string[];
  readonly positions: ReadonlyMap<string, number>;
  readonly targets: EdgeTargets;
}

class RowOrder {
  readonly #index: HistoryIndex;
  readonly #graph: DependencyGraph;
  readonly #findings: Findings;
  readonly #lasting: Map<string, LastingRows> = new Map();
  /** Of all rows, sorted. */
  readonly #keys: readonly string[];

  constructor(index: HistoryIndex, graph: DependencyGraph, findings: Findings) {
    this.#index = index;
    this.#graph = graph;
    this.#findings = findings;
    this.#keys = [...index.rows.keys()].sort();
  }

  #isCommitted(transaction: number | undefined): transaction is number {
    return transaction !== undefined && this.#index.isCommitted[transaction] === true;
  }

  addRow({ key, inserter, deleters }: RowObject): void {
    const [first, ...others] = deleters.filter((deleter) => this.#isCommitted(deleter));
    if (first === undefined) return;
    if (this.#isCommitted(inserter)) {
      for (const deleter of [first, ...others]) {
        const reason = { key, from: null, to: null };
        this.#graph.addEdge(inserter, deleter, EdgeKind.writeWrite, reason);
      }
    }
    for (const other of others) {
      this.#findings.add(
        "lost-update",
        key,
        [first, other],
        () => `T${first} and T${other} both found row "${key}" and deleted it`,
      );
    }
  }

  addReads(reader: number, isFinal: boolean): void {
    /** What the reader did to rows before: true for inserted, false for deleted. */
    const own = new Map<string, boolean>();
    for (const operation of this.#index.transactions[reader]!.operations) {
      if (operation.kind === "insert") own.set(operation.key, true);
      else if (operation.kind === "delete") this.#addDelete(reader, operation, own);
      else if (operation.kind === "scan") this.#addScan(reader, operation, own, isFinal);
    }
  }

  #addDelete(
    reader: number,
    { key, found }: Operation & { kind: "delete" },
    own: Map<string, boolean>,
  ): void {
    const expected = own.get(key);
    if (expected !== undefined && expected !== found) {
      this.#reportInternal(reader, key, expected, found);
    } else if (expected === undefined && found) {
      this.#addPresent(reader, key);
    } else if (expected === undefined) {
      const row = this.#index.rows.get(key);
      if (row?.deleters.length === 0 && this.#isCommitted(row.inserter)) {
        const reason = { key, from: null, to: null };
        this.#graph.addEdge(reader, row.inserter, EdgeKind.readWrite, reason);
      }
    }
    if (found) own.set(key, false);
  }

  #addScan(
    reader: number,
    { prefix, keys }: Operation & { kind: "scan" },
    own: ReadonlyMap<string, boolean>,
    isFinal: boolean,
  ): void {
    const seen = new Set<string>();
    for (const key of keys) {
      if (seen.has(key)) {
        this.#findings.add(
          "duplicate",
          key,
          [reader],
          () => `T${reader} scanned "${prefix}" and saw row "${key}" twice`,
        );
      }
      seen.add(key);
      const expected = own.get(key);
      if (expected === false) this.#reportInternal(reader, key, false, true);
      else if (expected === undefined) this.#addPresent(reader, key);
    }
    for (const [key, expected] of own) {
      if (expected && key.startsWith(prefix) && !seen.has(key)) {
        this.#reportInternal(reader, key, true, false);
      }
    }
    const lasting = this.#lastingRows(prefix);
    if (isFinal) {
      this.#checkFinalScan(seen, prefix, lasting);
      return;
    }
    const present: number[] = [];
    for (const key of seen) {
      const position = lasting.positions.get(key);
      if (position !== undefined) present.push(position);
    }
    const reason = { key: null, from: null, to: null };
    lasting.targets.connectExcept(reader, EdgeKind.predicateReadWrite, reason, present);
  }

  #reportInternal(reader: number, key: string, expected: boolean, found: boolean): void {
    const did = expected ? "inserted" : "deleted";
    this.#findings.add(
      "internal",
      key,
      [reader],
      () => `T${reader} ${did} row "${key}" and then found it ${found ? "there" : "missing"}`,
    );
  }

  #addPresent(reader: number, key: string): void {
    const row = this.#index.rows.get(key);
    const inserter = row?.inserter;
    if (row === undefined || inserter === undefined) {
      this.#findings.add(
        "unwritten",
        key,
        [reader],
        () => `T${reader} saw row "${key}", which nobody inserted`,
      );
      return;
    }
    const reason = { key, from: null, to: null };
    if (inserter === reader) {
      this.#reportFuture(reader, key);
    } else if (this.#index.isCommitted[inserter] !== true) {
      this.#findings.add(
        "G1a",
        key,
        [reader, inserter],
        () => `T${reader} saw row "${key}", which T${inserter} inserted and failed`,
      );
    } else if (row.deleters.includes(inserter)) {
      this.#findings.add(
        "G1b",
        key,
        [reader, inserter],
        () => `T${reader} saw row "${key}", which T${inserter} inserted and deleted`,
      );
    } else this.#graph.addEdge(inserter, reader, EdgeKind.writeRead, reason);
    for (const deleter of row.deleters) {
      if (this.#isCommitted(deleter)) {
        this.#graph.addEdge(reader, deleter, EdgeKind.readWrite, reason);
      }
    }
  }

  #reportFuture(reader: number, key: string): void {
    this.#findings.add(
      "internal",
      key,
      [reader],
      () => `T${reader} saw row "${key}" before it inserted it`,
    );
  }

  #checkFinalScan(seen: ReadonlySet<string>, prefix: string, lasting: LastingRows): void {
    for (const key of lasting.keys) {
      if (!seen.has(key)) this.#reportLost(key, "inserted");
    }
    for (const key of seen) {
      const deleter = this.#index.rows.get(key)?.deleters.find((each) => this.#isCommitted(each));
      if (deleter !== undefined && key.startsWith(prefix)) this.#reportLost(key, "deleted");
    }
  }

  #reportLost(key: string, did: "inserted" | "deleted"): void {
    const { inserter, deleters } = this.#index.rows.get(key)!;
    const writer = did === "inserted" ? inserter : deleters.find((each) => this.#isCommitted(each));
    this.#findings.add(
      "lost-commit",
      key,
      [writer!],
      () =>
        `Row "${key}" is ${did === "inserted" ? "missing" : "there"} at the end, although T${writer}, which committed, ${did} it`,
    );
  }

  #firstFrom(prefix: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#keys[middle]! < prefix) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #lastingRows(prefix: string): LastingRows {
    let lasting = this.#lasting.get(prefix);
    if (lasting !== undefined) return lasting;
    const { transactions, rows } = this.#index;
    const found: RowObject[] = [];
    for (let at = this.#firstFrom(prefix); this.#keys[at]?.startsWith(prefix) === true; at++) {
      const row = rows.get(this.#keys[at]!)!;
      if (row.deleters.length === 0 && this.#isCommitted(row.inserter)) found.push(row);
    }
    found.sort((a, b) => transactions[a.inserter!]!.invoked - transactions[b.inserter!]!.invoked);
    const keys = found.map(({ key }) => key);
    lasting = {
      keys,
      positions: new Map(keys.map((key, position) => [key, position])),
      targets: new EdgeTargets(
        this.#graph,
        found.map(({ inserter }) => inserter!),
        keys.map((key) => ({ key, from: null, to: null })),
      ),
    };
    this.#lasting.set(prefix, lasting);
    return lasting;
  }
}
