/**
 * Dependencies that follow from time alone: what had ended before another transaction began came before it.
 *
 * T1. Only the transitive reduction is made: from a transaction to those that began after it, but before another one that
 *     began after it had ended. So there are at most as many edges per transaction as clients at work.
 * T2. A transaction with an unknown outcome never ends: it may take effect at any later time.
 */
import { EdgeKind, type DependencyGraph } from "./dependency-graph.ts";
import type { HistoryIndex } from "./history.ts";

export function addTimeDependencies(index: HistoryIndex, graph: DependencyGraph): void {
  const { transactions } = index;
  const committed = [...transactions.keys()].filter((number) => index.isCommitted[number] === true);
  const begins = committed.toSorted((a, b) => transactions[a]!.invoked - transactions[b]!.invoked);
  const ends = committed
    .filter((number) => transactions[number]!.status === "ok")
    .sort((a, b) => transactions[a]!.completed - transactions[b]!.completed);
  /** Ended, and no other transaction both began after that and ended. */
  const latest = new Set<number>();
  const before = new Map<number, readonly number[]>();
  const lastOfClient = new Map<number, number>();
  let ended = 0;
  for (const number of begins) {
    const { invoked, client } = transactions[number]!;
    for (; ended < ends.length; ended++) {
      const end = ends[ended]!;
      if (transactions[end]!.completed >= invoked) break;
      for (const earlier of before.get(end) ?? []) latest.delete(earlier);
      before.delete(end);
      latest.add(end);
      lastOfClient.set(transactions[end]!.client, end);
    }
    before.set(number, [...latest]);
    const previous = lastOfClient.get(client);
    if (previous !== undefined) graph.addEdge(previous, number, EdgeKind.session);
    for (const earlier of latest) graph.addEdge(earlier, number, EdgeKind.realTime);
  }
}
