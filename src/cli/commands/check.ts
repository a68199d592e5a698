import type { Command } from "commander";
import type {
  CheckOptions,
  CheckPhase,
  CheckProgress,
  CheckReport,
} from "../../integrity/report.ts";
import { StoreError } from "../../errors.ts";
import type { RepairReport } from "../../store/repair-store.ts";
import type { OpenedSource } from "../../store/repair-sources.ts";
import type { CommandContext } from "../command-context.ts";
import type { CommandStore } from "../command-store.ts";
import { CommandError, UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { ProgressBar } from "../progress.ts";

export const CHECK_PHASES: Readonly<Record<CheckPhase, string>> = {
  catalog: "catalog rows",
  log: "log",
  pages: "page maps",
  chunks: "chunks",
  history: "history segments",
  sql: "heads and tags",
};

interface CheckFlags {
  readonly deep?: true;
  readonly repair?: true;
  readonly from?: string;
  readonly truncateLog?: true;
}

export function addCheckCommand(program: Command, context: CommandContext): void {
  program
    .command("check")
    .description("look for damage in the whole store, and say which revisions it touches")
    .option("--deep", "also recompute all hashes and run SQLite's checks on every head and tag")
    .option("--repair", "mend what can be mended, from other copies in the store and from --from")
    .option(
      "--from <dir|url>",
      "with --repair: a copy of the store's directory, or its place in object storage, to take lost data from (default: where it uploads to)",
    )
    .option(
      "--truncate-log",
      "with --repair: give up the commits after a damaged place in the log that nothing else mends",
    )
    .addHelpText(
      "after",
      `
Reads everything, works on stores that do not open any more, and changes nothing without --repair. Exit code 1: damaged.
A repair checks deeply, and lists what stays lost. See docs/check-and-repair.md.
${examples([
  ["bough check"],
  ["bough check --deep --output json"],
  ["bough check --repair --from /backup/bough", "bring back what is damaged here"],
  ["bough check --repair --from s3://backups/shop"],
])}`,
    )
    .action((flags: CheckFlags) => {
      if (flags.repair === true) return repair(context, flags);
      const needed = flags.from === undefined ? "--truncate-log" : "--from";
      if (flags.from !== undefined || flags.truncateLog === true)
        throw new UsageError(`Cannot use ${needed} alone: it is for --repair`);
      return check(context, flags.deep ?? false);
    });
}

async function check(context: CommandContext, deep: boolean): Promise<void> {
  const bar = new ProgressBar("Checking", context.terminal.stderr);
  let report: CheckReport;
  try {
    const options = { deep, onProgress: progressOn(bar) };
    const ask = (store: CommandStore): Promise<CheckReport> => store.check(options);
    report =
      context.isRemote || context.url !== null
        ? await context.withStore(ask)
        : await checkClosed(context, options).catch((error: unknown) =>
            context.throughSocket(error, ask),
          );
  } finally {
    bar.end();
  }
  if (context.format === "json") await context.printJson(report);
  else await printReport(context, report);
  failIfDamaged(context, report);
}

/** Also one that does not open any more. */
async function checkClosed(context: CommandContext, options: CheckOptions): Promise<CheckReport> {
  const { checkStore } = await import("../../store/check-store.ts");
  return await checkStore(context.storePath, { ...context.keyOptions(), ...options });
}

async function repair(context: CommandContext, flags: CheckFlags): Promise<void> {
  const { repairStore } = await import("../../store/repair-store.ts");
  const path = context.directoryFor("repair");
  const source = await openSource(context, path, flags.from);
  const bar = new ProgressBar("Repairing", context.terminal.stderr);
  let result: RepairReport;
  try {
    result = await context.withDirectory("repair", () =>
      repairStore(path, {
        ...context.keyOptions(),
        source: source ?? undefined,
        truncateLog: flags.truncateLog,
        onProgress: progressOn(bar),
      }),
    );
  } finally {
    bar.end();
    source?.close();
  }
  if (context.format === "json") await context.printJson(result);
  else {
    for (const { what, how } of result.steps) await context.printLine(`repaired  ${what}: ${how}`);
    for (const refusal of result.refusals) await context.printLine(`refused  ${refusal}`);
    await printReport(context, result.report);
  }
  const hint =
    '; to mend it from a copy or from object storage, give its place with "--from DIR|URL"';
  failIfDamaged(context, result.report, source === null ? hint : "");
}

/** What cannot be reached and was not asked for is done without. */
async function openSource(
  context: CommandContext,
  path: string,
  from: string | undefined,
): Promise<OpenedSource | null> {
  const { openRepairSource } = await import("../../store/repair-sources.ts");
  try {
    return await openRepairSource(path, from, context.keyOptions());
  } catch (error) {
    const isRemote = error instanceof StoreError && error.code.startsWith("REMOTE");
    if (from !== undefined || !isRemote) throw error;
    await context.warn(error, `Repairing without object storage: ${error.message}`);
    return null;
  }
}

function progressOn(bar: ProgressBar): (progress: CheckProgress) => void {
  return ({ phase, done, total }) =>
    bar.update({ done, total: total ?? 0, text: CHECK_PHASES[phase] });
}

/** What all commands that look for damage end with: exit code 1 when there is some. */
export function failIfDamaged(context: CommandContext, report: CheckReport, hint = ""): void {
  if (report.ok) return;
  const { length } = report.problems;
  throw new CommandError(
    "DAMAGED",
    `Cannot trust store "${context.storeName}": ${length} ${length === 1 ? "problem was" : "problems were"} found${hint}`,
  );
}

export async function printReport(context: CommandContext, report: CheckReport): Promise<void> {
  const { counts, problems } = report;
  for (const { code, message, revisions, pages } of problems) {
    await context.printLine(`${code}  ${message}`);
    const touched = revisions.length === 0 ? "no revision" : revisions.join("  ");
    const lost =
      pages === null || pages === 0 ? "" : ` (${pages} ${pages === 1 ? "page" : "pages"})`;
    await context.printLine(`  touches: ${touched}${lost}`);
  }
  const looked = [
    [counts.catalogRows, "catalog rows"],
    [counts.nodes, "page-map nodes"],
    [counts.chunks, "chunks"],
    [counts.historyEntries, "page versions in the history"],
    [counts.logRecords, "log records"],
    [counts.heads, "heads and tags with SQLite"],
  ] as const;
  const shown = looked.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  if (shown.length === 0) shown.push("an empty store");
  const verdict = report.ok ? "No damage found" : "Damage found";
  await context.printLine(`${verdict}; looked at ${shown.join(", ")}`);
}
