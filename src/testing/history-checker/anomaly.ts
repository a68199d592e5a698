/**
 * What can be wrong with a history: Adya's phenomena, and those that need no cycle. Which isolation level forbids what.
 *
 *   cycles, of dependencies      G0 (writes), G1c (writes and reads), G-single (one anti-dependency: read skew),
 *                                G2-item (several: write skew among them), G2 (with predicates: phantoms)
 *   the same with a session or   G0-session ... G2-realtime: serializable, but not in an order that the clients saw
 *   real-time edge
 *   single reads and writes      the others
 */
export type CycleClass = "G0" | "G1c" | "G-single" | "G2-item" | "G2";

export type AnomalyKind =
  | CycleClass
  | `${CycleClass}-session`
  | `${CycleClass}-realtime`
  /** A read saw a write of a transaction that failed. */
  | "G1a"
  /** A read saw a write that its own transaction overwrote. */
  | "G1b"
  /** A committed transaction wrote on top of what failed, or of what was only intermediate. */
  | "dirty-update"
  /** Two transactions read the same version of an object, and both replaced it. */
  | "lost-update"
  /** A transaction does not see its own writes, or sees them before they are made. */
  | "internal"
  /** One write shows twice. */
  | "duplicate"
  /** A read saw what nobody wrote. */
  | "unwritten"
  /** Two reads of a list cannot both be prefixes of one order. */
  | "incompatible-order"
  /** What was acknowledged, or seen, is not there at the end. */
  | "lost-commit";

export type Isolation =
  | "read-committed"
  | "snapshot-isolation"
  | "serializable"
  | "strict-serializable";

export interface CycleStep {
  readonly from: number;
  readonly to: number;
  readonly dependency: "ww" | "wr" | "rw" | "rw-predicate" | "session" | "realtime";
  readonly reason: string;
}

export interface Anomaly {
  readonly kind: AnomalyKind;
  readonly message: string;
  readonly key: string | null;
  /** By number in the history; of a cycle in its order. */
  readonly transactions: readonly number[];
  /** Empty when the anomaly is not a cycle. */
  readonly cycle: readonly CycleStep[];
}

const LEVELS: readonly Isolation[] = [
  "read-committed",
  "snapshot-isolation",
  "serializable",
  "strict-serializable",
];
/** The weakest level that forbids it, where that is not the weakest of all. */
const FORBIDDEN_FROM: ReadonlyMap<AnomalyKind, Isolation> = new Map<AnomalyKind, Isolation>([
  ["G-single", "snapshot-isolation"],
  ["lost-update", "snapshot-isolation"],
  ["G2-item", "serializable"],
  ["G2", "serializable"],
]);

/** Whether a store that promises the isolation level may show the anomaly. */
export function isPermitted(kind: AnomalyKind, isolation: Isolation): boolean {
  const isOfTime = kind.endsWith("-session") || kind.endsWith("-realtime");
  const from = isOfTime ? "strict-serializable" : (FORBIDDEN_FROM.get(kind) ?? "read-committed");
  return LEVELS.indexOf(isolation) < LEVELS.indexOf(from);
}
