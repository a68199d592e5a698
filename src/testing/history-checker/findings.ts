/** Collects anomalies: of each kind the first few in full, all of them counted. */
import type { Anomaly, AnomalyKind } from "./anomaly.ts";

const EXAMPLES_MAX = 8;

export class Findings {
  readonly anomalies: Anomaly[] = [];
  readonly counts: Map<AnomalyKind, number> = new Map();

  /** `message` is made only when it is kept. */
  add(
    kind: AnomalyKind,
    key: string | null,
    transactions: readonly number[],
    message: () => string,
  ): void {
    if (this.#count(kind)) {
      this.anomalies.push({ kind, key, transactions, message: message(), cycle: [] });
    }
  }

  addCycle(anomaly: Anomaly): void {
    if (this.#count(anomaly.kind)) this.anomalies.push(anomaly);
  }

  #count(kind: AnomalyKind): boolean {
    const count = (this.counts.get(kind) ?? 0) + 1;
    this.counts.set(kind, count);
    return count <= EXAMPLES_MAX;
  }
}
