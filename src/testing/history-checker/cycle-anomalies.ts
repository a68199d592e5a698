/**
 * Names the cycles of a dependency graph, from the worst class to the least, first over dependencies of data alone, then
 * with those of sessions, then of real time. In each component one shortest cycle per class.
 *
 * A1. Every cycle of the graph leads to at least one anomaly: where the search for a better name gave up, the component is
 *     reported under the least class that its edges allow.
 * A2. A class with sessions or real time is looked for only where its cycle has such an edge. The classes of several
 *     anti-dependencies are left out where data alone already makes a cycle: then they say nothing new.
 */
import type { Anomaly, AnomalyKind, CycleClass, CycleStep } from "./anomaly.ts";
import { anyCycle, edgesWithin, findComponents, shortestCycle, type Components } from "./cycles.ts";
import { EdgeKind, type DependencyGraph } from "./dependency-graph.ts";
import type { Findings } from "./findings.ts";

const WRITES = EdgeKind.writeWrite;
const READS = WRITES | EdgeKind.writeRead;
const ITEM = EdgeKind.readWrite;
const ANTI = ITEM | EdgeKind.predicateReadWrite;
const DATA = READS | ANTI;
const REAL_TIME = EdgeKind.realTime | EdgeKind.realTimeReadWrite;

interface Level {
  readonly suffix: "" | "-session" | "-realtime";
  /** Kinds that a cycle of this level must have, and those that it may. */
  readonly required: number;
  readonly added: number;
}

const LEVELS: readonly Level[] = [
  { suffix: "", required: 0, added: 0 },
  { suffix: "-session", required: EdgeKind.session, added: EdgeKind.session },
  {
    suffix: "-realtime",
    required: REAL_TIME,
    added: EdgeKind.session | REAL_TIME,
  },
];

export function findCycles(graph: DependencyGraph, findings: Findings): void {
  const all = findComponents(graph, DATA | EdgeKind.session | REAL_TIME);
  if (all.members.length === 0) return;
  const reported = new Uint8Array(graph.nodeCount);
  for (const level of LEVELS) {
    const components = findComponents(graph, DATA | level.added);
    const search = new CycleClasses(graph, findings, level);
    for (const [component, members] of components.members.entries()) {
      const isNew = !members.some((node) => reported[node] === 1);
      if (level.required === 0) {
        search.nameComponent(components, component, isNew);
      } else if (edgesWithin(graph, components, component, level.required).length > 0) {
        search.nameComponent(components, component, isNew);
      }
    }
    for (const members of components.members) for (const node of members) reported[node] = 1;
  }
}

class CycleClasses {
  readonly #graph: DependencyGraph;
  readonly #findings: Findings;
  readonly #level: Level;
  readonly #within: Map<number, Components> = new Map();

  constructor(graph: DependencyGraph, findings: Findings, level: Level) {
    this.#graph = graph;
    this.#findings = findings;
    this.#level = level;
  }

  /** `isNew`: none of its nodes is on a cycle of an earlier level. */
  nameComponent(components: Components, component: number, isNew: boolean): void {
    const { added } = this.#level;
    const late = added & EdgeKind.realTimeReadWrite;
    const withoutAnti = READS | (added & ~late);
    let isNamed = this.#nameStrict(
      components,
      component,
      "G0",
      withoutAnti & ~EdgeKind.writeRead,
      WRITES,
    );
    isNamed =
      this.#nameStrict(components, component, "G1c", withoutAnti, EdgeKind.writeRead) || isNamed;
    const anti = edgesWithin(this.#graph, components, component, ANTI | late);
    const single = this.#cycle(anti, withoutAnti, components);
    if (single !== null) {
      this.#report("G-single", single);
      isNamed = true;
    }
    if (!isNew && (isNamed || this.#level.required !== 0)) return;
    isNamed = this.#nameMultiple(components, component, "G2-item", ITEM | late, single) || isNamed;
    isNamed =
      this.#nameMultiple(components, component, "G2", EdgeKind.predicateReadWrite, single) ||
      isNamed;
    if (isNamed) return;
    const edges = edgesWithin(this.#graph, components, component, DATA | added);
    const cycle = anyCycle(this.#graph, edges[0]!, DATA | added, components);
    this.#report(this.#classOf(cycle), cycle);
  }

  /** Without anti-dependencies: looks in the components of those edges alone. */
  #nameStrict(
    outer: Components,
    component: number,
    kind: CycleClass,
    mask: number,
    required: number,
  ): boolean {
    let inner = this.#within.get(mask);
    if (inner === undefined) this.#within.set(mask, (inner = findComponents(this.#graph, mask)));
    let isNamed = false;
    const parts = new Set(outer.members[component]!.map((node) => inner.of[node]!));
    parts.delete(-1);
    for (const part of parts) {
      const needed = this.#level.required === 0 ? required : this.#level.required;
      const edges = edgesWithin(this.#graph, inner, part, needed);
      const cycle = shortestCycle(this.#graph, edges, mask, inner);
      if (cycle === null) continue;
      const found = this.#classOf(cycle);
      if (found === kind) this.#report(kind, cycle);
      isNamed ||= found === kind;
    }
    return isNamed;
  }

  #cycle(edges: readonly number[], mask: number, components: Components): number[] | null {
    const cycle = shortestCycle(this.#graph, edges, mask, components);
    return cycle !== null && this.#isOfLevel(cycle) ? cycle : null;
  }

  #nameMultiple(
    components: Components,
    component: number,
    kind: CycleClass,
    first: number,
    single: readonly number[] | null,
  ): boolean {
    const { added } = this.#level;
    const mask = kind === "G2-item" ? READS | ITEM | added : DATA | added;
    const edges = edgesWithin(this.#graph, components, component, first);
    const rest = single === null ? edges : edges.filter((edge) => edge !== single[0]);
    const cycle = shortestCycle(this.#graph, rest, mask, components);
    if (cycle === null || this.#classOf(cycle) !== kind || !this.#isOfLevel(cycle)) return false;
    this.#report(kind, cycle);
    return true;
  }

  #isOfLevel(cycle: readonly number[]): boolean {
    const { required } = this.#level;
    return required === 0 || cycle.some((edge) => (this.#graph.kind[edge]! & required) !== 0);
  }

  #classOf(cycle: readonly number[]): CycleClass {
    const count = (mask: number): number =>
      cycle.filter((edge) => (this.#graph.kind[edge]! & mask) !== 0).length;
    const antiCount = count(ANTI | EdgeKind.realTimeReadWrite);
    if (antiCount > 1) return count(EdgeKind.predicateReadWrite) > 0 ? "G2" : "G2-item";
    if (antiCount === 1) return "G-single";
    return count(EdgeKind.writeRead) > 0 ? "G1c" : "G0";
  }

  #report(kind: CycleClass, cycle: readonly number[]): void {
    const name: AnomalyKind = `${kind}${this.#level.suffix}`;
    this.#findings.addCycle(describeCycle(this.#graph, name, cycle));
  }
}

function describeCycle(
  graph: DependencyGraph,
  kind: AnomalyKind,
  edges: readonly number[],
): Anomaly {
  const steps: CycleStep[] = [];
  for (let at = 0; at < edges.length; at++) {
    const first = edges[at]!;
    while (at + 1 < edges.length && graph.kind[edges[at + 1]!] === EdgeKind.member) at++;
    const step = stepOf(graph, first, edges[at]!);
    const before = steps.at(-1);
    if (step.dependency === "realtime" && before?.dependency === "realtime") {
      steps[steps.length - 1] = {
        ...step,
        from: before.from,
        reason: `T${before.from} had ended before T${step.to} began`,
      };
    } else steps.push(step);
  }
  const transactions = steps.map(({ from }) => from);
  const way = [...transactions, transactions[0]!].map((number) => `T${number}`).join(" -> ");
  return { kind, key: null, transactions, cycle: steps, message: `Cycle ${way}` };
}

/** `last` is the edge that ends at a transaction: `first` itself, or the way out of the group that it enters. */
function stepOf(graph: DependencyGraph, first: number, last: number): CycleStep {
  const from = graph.from[first]!;
  const to = graph.to[last]!;
  const entered = graph.reasonOf(first);
  const left = graph.reasonOf(last);
  const key = left.key ?? entered.key;
  const version = entered.from === null ? "nothing" : String(entered.from);
  const next = left.to ?? entered.to;
  const on = `"${key}"`;
  const object = next === null ? `row ${on}` : `${next} in ${on}`;
  const kind = graph.kind[first]!;
  switch (kind) {
    case EdgeKind.writeWrite:
      return {
        from,
        to,
        dependency: "ww",
        reason: `T${to} wrote ${object} after T${from} had written it (${version})`,
      };
    case EdgeKind.writeRead: {
      const what = entered.from === null ? `row ${on}` : `${version} in ${on}`;
      return { from, to, dependency: "wr", reason: `T${to} saw ${what}, written by T${from}` };
    }
    case EdgeKind.readWrite:
      return {
        from,
        to,
        dependency: "rw",
        reason: `T${from} saw ${version} of ${on}, which T${to} replaced${next === null ? "" : ` with ${next}`}`,
      };
    case EdgeKind.predicateReadWrite:
      return {
        from,
        to,
        dependency: "rw-predicate",
        reason: `T${from} scanned without seeing row ${on}, which T${to} inserted`,
      };
    case EdgeKind.realTimeReadWrite:
      return {
        from,
        to,
        dependency: "rw",
        reason: `T${from} saw ${version} of ${on}, which had been written before T${to} began and wrote ${next}`,
      };
    case EdgeKind.session:
      return {
        from,
        to,
        dependency: "session",
        reason: `T${from} and then T${to} by the same client`,
      };
    default:
      return { from, to, dependency: "realtime", reason: `T${from} had ended before T${to} began` };
  }
}
