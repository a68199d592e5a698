import type { Command } from "commander";
import type { CheckPhase, CheckReport } from "../../integrity/report.ts";
import type { CommandContext } from "../command-context.ts";
import { CommandError } from "../errors.ts";
import { examples } from "../examples.ts";
import { ProgressBar } from "../progress.ts";

const PHASES: Readonly<Record<CheckPhase, string>> = {
  catalog: "catalog rows",
  log: "log",
  pages: "page maps",
  chunks: "chunks",
  history: "history segments",
  sql: "heads",
};

export function addCheckCommand(program: Command, context: CommandContext): void {
  program
    .command("check")
    .description("look for damage in the whole store, and say which revisions it touches")
    .option("--deep", "also recompute all hashes and run SQLite's checks on every head")
    .addHelpText(
      "after",
      `
Reads everything, changes nothing, works on stores that do not open any more. Exit code 1: damaged.
${examples([["bough check"], ["bough check --deep --output json"]])}`,
    )
    .action((options: { deep?: true }) => check(context, options.deep ?? false));
}

async function check(context: CommandContext, deep: boolean): Promise<void> {
  const { checkStore } = await import("../../store/check-store.ts");
  const bar = new ProgressBar("Checking", context.terminal.stderr);
  let report: CheckReport;
  try {
    report = await checkStore(context.storePath, {
      ...context.keyOptions(),
      deep,
      onProgress: ({ phase, done, total }) =>
        bar.update({ done, total: total ?? 0, text: PHASES[phase] }),
    });
  } finally {
    bar.end();
  }
  if (context.format === "json") await context.printJson(report);
  else await printReport(context, report);
  if (report.ok) return;
  const { length } = report.problems;
  throw new CommandError(
    "DAMAGED",
    `Cannot trust store "${context.storePath}": ${length} ${length === 1 ? "problem was" : "problems were"} found`,
  );
}

async function printReport(context: CommandContext, report: CheckReport): Promise<void> {
  const { counts, problems } = report;
  for (const { code, message, revisions } of problems) {
    await context.printLine(`${code}  ${message}`);
    const touched = revisions.length === 0 ? "no revision" : revisions.join("  ");
    await context.printLine(`  touches: ${touched}`);
  }
  const looked = [
    [counts.catalogRows, "catalog rows"],
    [counts.nodes, "page-map nodes"],
    [counts.chunks, "chunks"],
    [counts.historyEntries, "page versions in the history"],
    [counts.logRecords, "log records"],
    [counts.heads, "heads with SQLite"],
  ] as const;
  const shown = looked.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  if (shown.length === 0) shown.push("an empty store");
  const verdict = report.ok ? "No damage found" : "Damage found";
  await context.printLine(`${verdict}; looked at ${shown.join(", ")}`);
}
