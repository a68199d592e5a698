/**
 * Cycles of a dependency graph: strongly connected components by Tarjan's algorithm, and short cycles in them by
 * breadth-first search. A mask of edge kinds says which edges count; edges out of groups always do.
 *
 * C1. A component is found whenever there is a cycle: nothing is sampled.
 * C2. The search for a cycle of a certain shape looks at EDGES_SEARCHED_MAX edges at most, and then says that it gave up.
 */
import { EdgeKind, type DependencyGraph } from "./dependency-graph.ts";

/** Per search of one component for one shape; about a tenth of a second. */
const EDGES_SEARCHED_MAX = 4_000_000;

/** Which component each node belongs to; -1 where it is on no cycle. */
export interface Components {
  readonly of: Int32Array;
  readonly members: readonly (readonly number[])[];
}

/** Those with at least one cycle, over the edges that `mask` allows. */
export function findComponents(graph: DependencyGraph, mask: number): Components {
  const allowed = mask | EdgeKind.member;
  const count = graph.nodeCount;
  const visited = new Int32Array(count);
  const low = new Int32Array(count);
  const next = new Int32Array(count);
  const isOpen = new Uint8Array(count);
  const of = new Int32Array(count).fill(-1);
  const members: number[][] = [];
  const open: number[] = [];
  const path: number[] = [];
  let clock = 0;
  const enter = (node: number): void => {
    visited[node] = low[node] = ++clock;
    next[node] = graph.firstEdge(node);
    isOpen[node] = 1;
    open.push(node);
    path.push(node);
  };
  for (let root = 0; root < count; root++) {
    if (visited[root] !== 0) continue;
    enter(root);
    while (path.length > 0) {
      const node = path[path.length - 1]!;
      if (next[node]! < graph.firstEdge(node + 1)) {
        const edge = graph.edgeAt(next[node]!++);
        if ((graph.kind[edge]! & allowed) === 0) continue;
        const to = graph.to[edge]!;
        if (visited[to] === 0) enter(to);
        else if (isOpen[to] === 1) low[node] = Math.min(low[node]!, visited[to]!);
        continue;
      }
      path.pop();
      const parent = path[path.length - 1];
      if (parent !== undefined) low[parent] = Math.min(low[parent]!, low[node]!);
      if (low[node] === visited[node]) close(node);
    }
  }
  return { of, members };

  function close(node: number): void {
    const isAlone = open[open.length - 1] === node;
    const component: number[] = [];
    for (let member = -1; member !== node;) {
      member = open.pop()!;
      isOpen[member] = 0;
      if (isAlone) continue;
      of[member] = members.length;
      component.push(member);
    }
    if (!isAlone) members.push(component);
  }
}

/** The edges of a component, of the kinds of `mask`, that stay in it. */
export function edgesWithin(
  graph: DependencyGraph,
  components: Components,
  component: number,
  mask: number,
): number[] {
  const found: number[] = [];
  for (const node of components.members[component]!) {
    for (let at = graph.firstEdge(node); at < graph.firstEdge(node + 1); at++) {
      const edge = graph.edgeAt(at);
      if ((graph.kind[edge]! & mask) === 0) continue;
      if (components.of[graph.to[edge]!] === component) found.push(edge);
    }
  }
  return found;
}

/**
 * The shortest of the cycles that begin with one of `edges` and return over edges of `mask` alone, as a list of edges; null
 * when there is none, or when the search gave up.
 */
export function shortestCycle(
  graph: DependencyGraph,
  edges: readonly number[],
  mask: number,
  components: Components,
): number[] | null {
  const search = new CycleSearch(graph, mask | EdgeKind.member, components);
  let shortest: number[] | null = null;
  for (const edge of edges) {
    const path = search.path(graph.to[edge]!, graph.from[edge]!, search.lengthOf(shortest));
    if (path !== null) shortest = [edge, ...path];
    if (search.hasGivenUp || search.lengthOf(shortest) <= 2) break;
  }
  return shortest;
}

/** A shortest cycle that begins with an edge of a component, however long the search takes. */
export function anyCycle(
  graph: DependencyGraph,
  edge: number,
  mask: number,
  components: Components,
): number[] {
  const search = new CycleSearch(graph, mask | EdgeKind.member, components, Infinity);
  const path = search.path(graph.to[edge]!, graph.from[edge]!, Infinity);
  if (path === null) throw new Error(`The edge ${edge} is on no cycle of its component`);
  return [edge, ...path];
}

class CycleSearch {
  readonly #graph: DependencyGraph;
  readonly #allowed: number;
  readonly #edgesMax: number;
  readonly #components: Components;
  /** In which search a node was reached last, and by which edge. */
  readonly #reached: Int32Array;
  readonly #by: Int32Array;
  #round = 0;
  #searched = 0;

  constructor(
    graph: DependencyGraph,
    allowed: number,
    components: Components,
    edgesMax: number = EDGES_SEARCHED_MAX,
  ) {
    this.#edgesMax = edgesMax;
    this.#graph = graph;
    this.#allowed = allowed;
    this.#components = components;
    this.#reached = new Int32Array(graph.nodeCount);
    this.#by = new Int32Array(graph.nodeCount);
  }

  get hasGivenUp(): boolean {
    return this.#searched >= this.#edgesMax;
  }

  /** Dependencies of a cycle (G2 of dependency-graph.ts). */
  lengthOf(cycle: readonly number[] | null): number {
    if (cycle === null) return Infinity;
    return cycle.filter((edge) => this.#graph.kind[edge] !== EdgeKind.member).length;
  }

  /** The path with the fewest dependencies, if with the first edge it makes a cycle shorter than `below`. */
  path(from: number, to: number, below: number): number[] | null {
    if (from === to) return [];
    this.#round++;
    this.#reached[from] = this.#round;
    let layer = [from];
    for (let length = 1; length < below && layer.length > 0 && !this.hasGivenUp; length++) {
      const following: number[] = [];
      for (let node = layer.pop(); node !== undefined; node = layer.pop()) {
        if (this.#expand(node, to, layer, following)) return this.#backtrack(from, to);
      }
      layer = following;
    }
    return null;
  }

  /** Members of a group are as near as the group itself. */
  #expand(node: number, to: number, layer: number[], following: number[]): boolean {
    const graph = this.#graph;
    const component = this.#components.of[node];
    for (let at = graph.firstEdge(node); at < graph.firstEdge(node + 1); at++) {
      this.#searched++;
      const edge = graph.edgeAt(at);
      const next = graph.to[edge]!;
      if ((graph.kind[edge]! & this.#allowed) === 0) continue;
      if (this.#reached[next] === this.#round || this.#components.of[next] !== component) continue;
      this.#reached[next] = this.#round;
      this.#by[next] = edge;
      if (next === to) return true;
      (graph.kind[edge] === EdgeKind.member ? layer : following).push(next);
    }
    return false;
  }

  #backtrack(from: number, to: number): number[] {
    const path: number[] = [];
    for (let node = to; node !== from;) {
      const edge = this.#by[node]!;
      path.push(edge);
      node = this.#graph.from[edge]!;
    }
    return path.reverse();
  }
}
