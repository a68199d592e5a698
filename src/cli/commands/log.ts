import type { Command } from "commander";
import { StoreError } from "../../errors.ts";
import { parseBranch } from "../branch-name.ts";
import type { CommandContext } from "../command-context.ts";
import type { CommandStore } from "../command-store.ts";
import { examples } from "../examples.ts";
import { parseCount } from "../numbers.ts";
import { showTime } from "../time.ts";

const LIMIT_DEFAULT = 100;

export function addLogCommand(program: Command, context: CommandContext): void {
  program
    .command("log <database[/branch]>")
    .description("list the commits of a branch, newest first, also those from before its fork")
    .option("--limit <n>", `at most so many commits, or "all" (default: ${LIMIT_DEFAULT})`)
    .option("--before <version>", "only versions before this one")
    .addHelpText("after", examples([["bough log shop"], ["bough log shop/dev --limit 20"]]))
    .action((name: string, options: LogOptions) => log(context, name, options));
}

interface LogOptions {
  readonly limit?: string;
  readonly before?: string;
}

function log(context: CommandContext, name: string, options: LogOptions): Promise<void> {
  const { database, branch } = parseBranch(name, "main");
  const { limit: limitText = String(LIMIT_DEFAULT), before } = options;
  const limit = limitText === "all" ? Infinity : parseCount("--limit", limitText);
  const newest = before === undefined ? Infinity : parseCount("--before", before) - 1;
  return context.withStore(async (store) => {
    const found = await store.branchLog(database, branch, { limit: limit + 1, before: newest });
    const commits = found.slice(0, limit);
    await context.printList(
      commits,
      [
        ["version", ({ version }) => String(version)],
        ["time", ({ timestamp }) => showTime(timestamp)],
        ["branch", (commit) => commit.branch],
        ["pages", ({ pageCount }) => String(pageCount)],
        ["changed", ({ changedPages }) => String(changedPages)],
      ],
      { whenEmpty: `No commits in "${database}/${branch}"` },
    );
    const last = commits.at(-1);
    if (context.format === "table" && found.length > limit && last !== undefined) {
      const next = context.commandLine("log", name, "--before", String(last.version));
      await context.printLine(`Older commits: ${next}`);
    } else if (context.format === "table" && (await hasExpired(store, database, branch))) {
      const rest = context.commandLine("retention", "show", name);
      await context.printLine(`Other commits have expired; what is kept, and until when: ${rest}`);
    }
  });
}

/** Not known to whoever may not read the whole database. */
async function hasExpired(store: CommandStore, database: string, branch: string): Promise<boolean> {
  try {
    return (await store.retentionStatus(database, branch)).hasExpired;
  } catch (error) {
    if (error instanceof StoreError && error.code === "FORBIDDEN") return false;
    throw error;
  }
}
