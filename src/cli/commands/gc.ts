import type { Command } from "commander";
import type { GarbagePhase, GarbageReport } from "../../retention/garbage-cycle.ts";
import type { HeldSpace } from "../../store/garbage-holders.ts";
import type { CommandContext } from "../command-context.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { ProgressBar } from "../progress.ts";

const PHASES: readonly GarbagePhase[] = ["mark", "pages", "chunks", "nodes", "packs", "history"];

export function addGcCommand(program: Command, context: CommandContext): void {
  program
    .command("gc")
    .description("free what has expired, and say what still holds space")
    .option("--dry-run", "only say what would be freed of what nothing leads to now")
    .addHelpText(
      "after",
      `
Versions go as "bough retention" says; then the space of pages that no branch, tag or kept version has is given back.
"own" is what nothing else holds: about what is freed once that is gone.
${examples([["bough gc --dry-run"], ["bough gc --output json"]])}`,
    )
    .action((options: { dryRun?: true }) => collect(context, options.dryRun ?? false));
}

function collect(context: CommandContext, dryRun: boolean): Promise<void> {
  return context.withStore(async (store) => {
    const bar = new ProgressBar("Collecting", context.terminal.stderr);
    let report: GarbageReport;
    try {
      report = await store.gc({
        dryRun,
        onProgress: ({ phase, done }) =>
          bar.update({
            done: PHASES.indexOf(phase),
            total: PHASES.length,
            text: `${phase}: ${done}`,
          }),
      });
    } finally {
      bar.end();
    }
    const held = await store.heldSpace();
    if (context.format === "json") await context.printJson({ ...report, held });
    else await printReport(context, report, held);
  });
}

async function printReport(
  context: CommandContext,
  report: GarbageReport,
  held: HeldSpace,
): Promise<void> {
  const { isDryRun, freedBytes, chunks, nodes, packs, history } = report;
  const verb = isDryRun ? "Would free" : "Freed";
  await context.printLine(
    `${verb} ${showBytes(freedBytes)}: ${packs.count} packs (${showBytes(packs.bytes)}, of which ${showBytes(packs.copiedBytes)} copied), ` +
      `${history.count} history segments (${showBytes(history.bytes)})`,
  );
  await context.printLine(
    `${isDryRun ? "Would drop" : "Dropped"} ${chunks.count} chunks (${showBytes(chunks.bytes)}), ${report.pages} pages of the index, ` +
      `${nodes.count} page-map nodes (${showBytes(nodes.bytes)})`,
  );
  await context.printList(
    held.holders,
    [
      ["held by", ({ revision }) => revision],
      ["as", ({ kind }) => kind],
      ["own", ({ ownBytes }) => showBytes(ownBytes)],
    ],
    { whenEmpty: "Nothing holds space" },
  );
  await context.printLine(
    `Shared by several of them: ${showBytes(held.sharedBytes)}; history of commits: ${showBytes(held.historyBytes)}`,
  );
}
