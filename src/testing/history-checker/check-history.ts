/**
 * The checker of histories: whether what clients saw can be explained by transactions that ran one after another, each
 * at a moment between its beginning and its end. It knows nothing of the store. Linear in the history but for the searches
 * in what is found to be wrong, which are bounded.
 */
import { isPermitted, type Anomaly, type AnomalyKind, type Isolation } from "./anomaly.ts";
import { findCycles } from "./cycle-anomalies.ts";
import { DependencyGraph } from "./dependency-graph.ts";
import { Findings } from "./findings.ts";
import { HistoryIndex, type History } from "./history.ts";
import { addListDependencies } from "./list-order.ts";
import { addRegisterDependencies } from "./register-order.ts";
import { addRowDependencies } from "./row-order.ts";
import { addTimeDependencies } from "./time-order.ts";

export interface HistoryReport {
  /** Nothing was found that the isolation level forbids. */
  readonly ok: boolean;
  readonly isolation: Isolation;
  /** What the isolation level forbids, the first of each kind. */
  readonly anomalies: readonly Anomaly[];
  /** How many of each kind, permitted ones too. */
  readonly counts: { readonly [kind in AnomalyKind]?: number };
  readonly transactionCount: number;
  readonly operationCount: number;
  readonly committedCount: number;
  readonly dependencyCount: number;
}

export interface CheckHistoryOptions {
  /** What the store promises; "strict-serializable" when not given. */
  readonly isolation?: Isolation;
}

/** Throws a RangeError when the history itself is not sound (H1 to H3 of history.ts). */
export function checkHistory(history: History, options: CheckHistoryOptions = {}): HistoryReport {
  const isolation = options.isolation ?? "strict-serializable";
  const index = new HistoryIndex(history);
  const graph = new DependencyGraph(index.transactions.length);
  const findings = new Findings();
  addListDependencies(index, graph, findings);
  addRegisterDependencies(index, graph, findings, history.registerOrders ?? new Map());
  addRowDependencies(index, graph, findings);
  addTimeDependencies(index, graph);
  graph.seal();
  findCycles(graph, findings);
  const anomalies = findings.anomalies.filter(({ kind }) => !isPermitted(kind, isolation));
  return {
    ok: anomalies.length === 0,
    isolation,
    anomalies,
    counts: Object.fromEntries(findings.counts),
    transactionCount: index.transactions.length,
    operationCount: index.operationCount,
    committedCount: index.isCommitted.filter(Boolean).length,
    dependencyCount: graph.from.length,
  };
}
