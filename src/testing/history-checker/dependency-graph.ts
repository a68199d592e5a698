/**
 * Which transaction must come before which other one, and why. Nodes are transactions, numbered as in the history, and
 * behind them groups: an edge into a group leads to every member of it, so that "this read came before all of those
 * writes" takes a few edges instead of one per write.
 *
 * G1. An edge says what follows from the history in every serial order that explains it: it is never a guess.
 * G2. Edges out of groups have the kind `member`. A path counts one dependency per edge that is not of that kind, and
 *     each such edge comes from a transaction.
 * G3. No edge leads from a transaction to itself, not through a group either: whoever connects a transaction to
 *     members leaves that transaction out.
 */
export const EdgeKind = {
  /** Both wrote the object, the second one later. */
  writeWrite: 1,
  /** The second read what the first wrote. */
  writeRead: 2,
  /** The first read a version that the second replaced. */
  readWrite: 4,
  /** The first scanned a range, the second put a row there that the scan lacks. */
  predicateReadWrite: 8,
  /** The same client: the first had ended before the second began. */
  session: 16,
  /** Other clients: the first had ended before the second began. */
  realTime: 32,
  member: 64,
  /** The first read a version that, in real time, the second replaced. */
  realTimeReadWrite: 128,
} as const;
export type EdgeKind = (typeof EdgeKind)[keyof typeof EdgeKind];

/** What an edge is about: the object and its versions, as far as there are. */
export interface EdgeReason {
  readonly key: string | null;
  readonly from: number | null;
  readonly to: number | null;
}

const NOTHING: EdgeReason = { key: null, from: null, to: null };

export class DependencyGraph {
  readonly transactionCount: number;
  nodeCount: number;
  readonly from: number[] = [];
  readonly to: number[] = [];
  readonly kind: number[] = [];
  readonly reasons: (EdgeReason | null)[] = [];
  #starts: Int32Array = new Int32Array(0);
  #order: Int32Array = new Int32Array(0);

  constructor(transactionCount: number) {
    this.transactionCount = transactionCount;
    this.nodeCount = transactionCount;
  }

  addNode(): number {
    return this.nodeCount++;
  }

  addEdge(from: number, to: number, kind: EdgeKind, reason: EdgeReason | null = null): void {
    if (from === to) return;
    this.from.push(from);
    this.to.push(to);
    this.kind.push(kind);
    this.reasons.push(reason);
  }

  reasonOf(edge: number): EdgeReason {
    return this.reasons[edge] ?? NOTHING;
  }

  /** Sorts the edges by where they start. Edges added later are not seen by the searches. */
  seal(): void {
    const starts = new Int32Array(this.nodeCount + 1);
    for (const node of this.from) starts[node + 1]!++;
    for (let node = 0; node < this.nodeCount; node++) starts[node + 1]! += starts[node]!;
    const next = starts.slice();
    const order = new Int32Array(this.from.length);
    for (let edge = 0; edge < this.from.length; edge++) {
      order[next[this.from[edge]!]!++] = edge;
    }
    this.#starts = starts;
    this.#order = order;
  }

  /** The edges out of a node are `edgeAt(firstEdge(node))` up to, not including, `edgeAt(firstEdge(node + 1))`. */
  firstEdge(node: number): number {
    return this.#starts[node]!;
  }

  edgeAt(position: number): number {
    return this.#order[position]!;
  }
}

/** Transactions in a row, of which any run is reached with few edges: a binary tree of groups over them. */
export class EdgeTargets {
  readonly #graph: DependencyGraph;
  readonly #members: readonly number[];
  readonly #reasons: readonly EdgeReason[];
  #tree: Int32Array | null = null;
  #positions: Map<number, number[]> | null = null;

  /** `reasons` says of each member what of it is meant. */
  constructor(graph: DependencyGraph, members: readonly number[], reasons: readonly EdgeReason[]) {
    this.#graph = graph;
    this.#members = members;
    this.#reasons = reasons;
  }

  /** Edges from a transaction to the members from position `start` up to, not including, `end`. None of them may be it. */
  connect(from: number, start: number, end: number, kind: EdgeKind, reason: EdgeReason): void {
    const count = this.#members.length;
    for (let low = start + count, high = end + count; low < high; low >>= 1, high >>= 1) {
      if ((low & 1) === 1) this.#connectNode(from, low++, kind, reason);
      if ((high & 1) === 1) this.#connectNode(from, --high, kind, reason);
    }
  }

  /** As `connect`, of all members but those at the positions given, and but `from` itself. */
  connectExcept(
    from: number,
    kind: EdgeKind,
    reason: EdgeReason,
    excluded: readonly number[] = [],
  ): void {
    const gaps = Int32Array.from([...excluded, ...this.#positionsOf(from)]).sort();
    let start = 0;
    for (const gap of gaps) {
      this.connect(from, start, gap, kind, reason);
      start = gap + 1;
    }
    this.connect(from, start, this.#members.length, kind, reason);
  }

  #positionsOf(member: number): readonly number[] {
    if (this.#positions === null) {
      this.#positions = new Map();
      for (const [position, each] of this.#members.entries()) {
        const positions = this.#positions.get(each);
        if (positions === undefined) this.#positions.set(each, [position]);
        else positions.push(position);
      }
    }
    return this.#positions.get(member) ?? [];
  }

  #connectNode(from: number, position: number, kind: EdgeKind, reason: EdgeReason): void {
    const count = this.#members.length;
    if (position >= count) {
      const { key, to } = this.#reasons[position - count]!;
      const exact = { key: key ?? reason.key, from: reason.from, to: to ?? reason.to };
      this.#graph.addEdge(from, this.#members[position - count]!, kind, exact);
    } else {
      this.#tree ??= this.#makeTree();
      this.#graph.addEdge(from, this.#tree[position]!, kind, reason);
    }
  }

  /** The tree's node n has the children 2n and 2n + 1; nodes from `count` on are the members. */
  #makeTree(): Int32Array {
    const count = this.#members.length;
    const tree = new Int32Array(count);
    for (let position = 1; position < count; position++) tree[position] = this.#graph.addNode();
    for (let position = 1; position < count; position++) {
      for (const child of [2 * position, 2 * position + 1]) {
        const to = child < count ? tree[child]! : this.#members[child - count]!;
        const reason = child < count ? null : this.#reasons[child - count]!;
        this.#graph.addEdge(tree[position]!, to, EdgeKind.member, reason);
      }
    }
    return tree;
  }
}
