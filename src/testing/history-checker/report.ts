/** A report in words, with the transactions of each anomaly. The report itself is plain JSON. */
import type { HistoryReport } from "./check-history.ts";
import type { History, Operation } from "./history.ts";

const OPERATIONS_MAX = 20;
const VALUES_MAX = 12;

export function renderReport(report: HistoryReport, history: History): string {
  const { transactionCount, operationCount, committedCount, dependencyCount } = report;
  const lines = [
    `${report.isolation}: ${report.ok ? "yes" : "no"} (${transactionCount} transactions, ${committedCount} of them committed, ${operationCount} operations, ${dependencyCount} dependencies)`,
  ];
  for (const [kind, count] of Object.entries(report.counts)) lines.push(`  ${kind}: ${count}`);
  for (const { kind, message, cycle, transactions } of report.anomalies) {
    lines.push("", `${kind}: ${message}`);
    for (const { from, to, dependency, reason } of cycle) {
      lines.push(`  T${from} -${dependency}-> T${to}  ${reason}`);
    }
    for (const number of new Set(transactions))
      lines.push(`  ${renderTransaction(history, number)}`);
  }
  return lines.join("\n");
}

function renderTransaction(history: History, number: number): string {
  const { client, invoked, completed, status, operations } = history.transactions[number]!;
  const shown = operations.slice(0, OPERATIONS_MAX).map(renderOperation);
  if (operations.length > OPERATIONS_MAX) shown.push(`... ${operations.length} operations`);
  const end = status === "unknown" ? "?" : completed;
  return `T${number} = client ${client}, ${invoked} to ${end}, ${status}: ${shown.join("; ")}`;
}

function renderOperation(operation: Operation): string {
  switch (operation.kind) {
    case "append":
      return `append ${operation.key} ${operation.value}`;
    case "read-list":
      return `read ${operation.key} = [${renderValues(operation.values)}]`;
    case "write":
      return `write ${operation.key} ${operation.value}`;
    case "read-register":
      return `read ${operation.key} = ${operation.value}`;
    case "insert":
      return `insert ${operation.key}`;
    case "delete":
      return `delete ${operation.key} (${operation.found ? "found" : "missing"})`;
    case "scan":
      return `scan ${operation.prefix}* = [${renderValues(operation.keys)}]`;
  }
}

/** The end of a list says most. */
function renderValues(values: readonly (number | string)[]): string {
  if (values.length <= VALUES_MAX) return values.join(", ");
  return `${values.length - VALUES_MAX} more, ${values.slice(-VALUES_MAX).join(", ")}`;
}
