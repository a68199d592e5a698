import type { Command } from "commander";
import { StoreError } from "../../errors.ts";
import type { RestoreStoreResult } from "../../store/restore-store.ts";
import type { CommandContext } from "../command-context.ts";
import { CommandError, UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { ProgressBar } from "../progress.ts";
import { showTime } from "../time.ts";
import { CHECK_PHASES, printReport } from "./check.ts";

interface RestoreStoreFlags {
  readonly to?: string;
  readonly verify: boolean;
}

export function addRestoreStoreCommand(program: Command, context: CommandContext): void {
  program
    .command("restore-store <url> <dir>")
    .description("make a full copy of a store in object storage, and verify it")
    .option("--to <time|revision>", "every branch as at a time, or one branch as a revision was")
    .option("--no-verify", "do not check the copy")
    .addHelpText(
      "after",
      `
The directory must be new or empty. The copy has no ties to where it came from: it uploads nowhere. It is checked as
"bough check --deep" does: every hash, and SQLite's own check of every head and tag. Exit code 1: the copy is damaged.
${examples([
  ["bough restore-store s3://backups/shop ./bough"],
  ["bough restore-store s3://backups/shop ./before --to 2026-11-20T10:00:00Z"],
  ["bough restore-store s3://backups/shop ./before --to shop/main@120"],
])}`,
    )
    .action((url: string, directory: string, flags: RestoreStoreFlags) =>
      restore(context, { url, directory, flags }),
    );
}

async function restore(
  context: CommandContext,
  request: { url: string; directory: string; flags: RestoreStoreFlags },
): Promise<void> {
  const { url, directory, flags } = request;
  const to = flags.to === undefined ? undefined : await readTarget(flags.to);
  const { restoreStore } = await import("../../store/restore-store.ts");
  const { stderr } = context.terminal;
  const copying = new ProgressBar("Copying", stderr);
  const checking = new ProgressBar("Checking", stderr);
  let result: RestoreStoreResult;
  try {
    result = await restoreStore(url, directory, {
      ...context.keyOptions(),
      ...(to === undefined ? {} : { to }),
      verify: flags.verify,
      onProgress: ({ bytes, totalBytes }) =>
        copying.update({
          done: bytes,
          total: totalBytes,
          text: `${showBytes(bytes)} of ${showBytes(totalBytes)}`,
        }),
      onCheckProgress: ({ phase, done, total }) => {
        copying.end();
        checking.update({ done, total: total ?? 0, text: CHECK_PHASES[phase] });
      },
    });
  } finally {
    copying.end();
    checking.end();
  }
  if (context.format === "json") await context.printJson(result);
  else await printResult(context, result);
  const problems = result.check?.problems.length ?? 0;
  if (problems > 0)
    throw new CommandError(
      "DAMAGED",
      `Cannot trust the copy in "${directory}": ${problems} ${problems === 1 ? "problem was" : "problems were"} found`,
    );
}

async function printResult(context: CommandContext, result: RestoreStoreResult): Promise<void> {
  const { url, directory, databases, files, bytes, lsn, uploadedAt, moved, check } = result;
  await context.printLine(
    `Copied "${url}" to "${directory}": ${databases} ${databases === 1 ? "database" : "databases"}, ${files} files with ${showBytes(bytes)}, up to LSN ${lsn} of ${showTime(uploadedAt)}`,
  );
  if (moved.length > 0) await context.printLine(`Moved back: ${moved.join(", ")}`);
  if (check === null)
    return context.printLine('Not verified; "bough check --deep" in that store does it');
  await printReport(context, check);
  if (check.ok)
    await context.printLine(
      "Verified: all chunks, page maps and versions by their hashes, and every head and tag by SQLite's integrity_check",
    );
}

/** A time or duration before now as a Date, a revision as it is. Throws UsageError, before anything is copied. */
async function readTarget(text: string): Promise<Date | string> {
  const { parseRevision } = await import("../../branch/revision.ts");
  const wrong = `Cannot restore to "${text}": give a time with a zone ("2026-11-20T10:00:00Z"), a duration before now ("-5m") or a revision ("shop/main@120")`;
  try {
    if (text.includes("@")) {
      parseRevision(text);
      return text;
    }
    const { at } = parseRevision(`database@${text}`);
    if (at?.kind === "time") return new Date(at.timestampMs);
    if (at?.kind === "ago") return new Date(Date.now() - at.milliseconds);
  } catch (cause) {
    if (!(cause instanceof StoreError)) throw cause;
  }
  throw new UsageError(wrong);
}
