import type { Command } from "commander";
import { parseRevision } from "../../branch/revision.ts";
import type { RetentionOverrides } from "../../catalog/rows.ts";
import type { RetentionPolicy } from "../../retention/policy.ts";
import type { RetentionStatus } from "../../store/retention-status.ts";
import { parseBranch } from "../branch-name.ts";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { parseSize, showBytes } from "../numbers.ts";
import { parseDuration, showDuration, showTime } from "../time.ts";

export function addRetentionCommands(program: Command, context: CommandContext): void {
  const group = program
    .command("retention")
    .description("set and show how long versions are kept readable");
  group
    .command("set <database[/branch]>")
    .description("change how long versions of a database, or of one branch, are kept")
    .option("--every-commit <duration>", "every commit is readable for so long")
    .option("--history-bytes <size>", "at most so much history, of a database: 1GiB")
    .option("--hourly <duration>", "the last checkpoint of each hour is kept for so long")
    .option("--daily <duration>", "the last checkpoint of each day is kept for so long")
    .option("--undelete <duration>", "what was deleted can come back for so long")
    .option("--unset", "forget all that was set here: as the database says, or the defaults")
    .addHelpText(
      "after",
      `
A duration is written 7d, 24h, 1h30m or 0; "forever" is no bound.
${examples([
  ["bough retention set shop --every-commit 48h --daily 90d"],
  ["bough retention set shop/test --every-commit 0 --hourly 0 --daily 0", "keep heads only"],
  ["bough retention set shop/test --unset"],
])}`,
    )
    .action((name: string, options: SetOptions) => set(context, name, options));
  group
    .command("show <database[/branch]>")
    .description("print what of a branch is readable, why, and until when")
    .addHelpText("after", examples([["bough retention show shop"]]))
    .action((name: string) => show(context, name));
}

interface SetOptions {
  readonly everyCommit?: string;
  readonly historyBytes?: string;
  readonly hourly?: string;
  readonly daily?: string;
  readonly undelete?: string;
  readonly unset?: boolean;
}

function set(context: CommandContext, name: string, options: SetOptions): Promise<void> {
  const { database, branch, at } = parseRevision(name);
  if (at !== null) throw new UsageError(`Cannot use "${name}" here: it names a fixed version`);
  const changes = parseChanges(options);
  if (options.unset === true && Object.keys(changes).length > 0)
    throw new UsageError("Cannot use --unset with other options: it forgets all of them");
  if (options.unset !== true && Object.keys(changes).length === 0)
    throw new UsageError(
      "Cannot set the retention: nothing is given; an example is --every-commit 48h",
    );
  if (branch !== null && changes.historyBytesMax !== undefined)
    throw new UsageError(
      `Cannot use --history-bytes with "${name}": branches share their history; set it for "${database}"`,
    );
  const wanted = options.unset === true ? null : changes;
  return context.withStore(async (store) => {
    const policy =
      branch === null
        ? await store.setDatabaseRetention(database, wanted)
        : await store.setBranchRetention(database, branch, wanted);
    return context.printDone(`Retention of "${name}": ${describe(policy)}`, policy);
  });
}

function parseChanges(options: SetOptions): RetentionOverrides {
  const { everyCommit, historyBytes, hourly, daily, undelete } = options;
  return {
    ...(everyCommit === undefined
      ? {}
      : { everyCommitMs: parseDuration("--every-commit", everyCommit) }),
    ...(historyBytes === undefined
      ? {}
      : { historyBytesMax: parseSize("--history-bytes", historyBytes) }),
    ...(hourly === undefined ? {} : { hourlyMs: parseDuration("--hourly", hourly) }),
    ...(daily === undefined ? {} : { dailyMs: parseDuration("--daily", daily) }),
    ...(undelete === undefined ? {} : { undeleteMs: parseDuration("--undelete", undelete) }),
  };
}

function describe(policy: RetentionPolicy): string {
  const { everyCommitMs, historyBytesMax, hourlyMs, dailyMs, undeleteMs } = policy;
  const parts = [
    `every commit ${showDuration(everyCommitMs)}`,
    `hourly ${showDuration(hourlyMs)}`,
    `daily ${showDuration(dailyMs)}`,
    `deleted ${showDuration(undeleteMs)}`,
  ];
  if (historyBytesMax !== null) parts.push(`history at most ${showBytes(historyBytesMax)}`);
  return parts.join(", ");
}

function show(context: CommandContext, name: string): Promise<void> {
  const { database, branch } = parseBranch(name, "main");
  return context.withStore(async (store) => {
    const status = await store.retentionStatus(database, branch);
    if (context.format === "json") return context.printJson(status);
    await context.printList(
      rowsOf(status, (await store.branchFacts(database, branch)).head.version),
      [
        ["version", ({ version }) => version],
        ["time", ({ time }) => time],
        ["kept", ({ kept }) => kept],
        ["until", ({ until }) => until],
      ],
      { whenEmpty: `No commits in "${database}/${branch}"` },
    );
    await context.printLine(`Policy: ${describe(status.policy)}`);
    const { historyBytes, historySegments } = status;
    await context.printLine(
      `History of "${database}": ${showBytes(historyBytes)} in ${historySegments} ${historySegments === 1 ? "segment" : "segments"}`,
    );
  });
}

interface Row {
  readonly version: string;
  readonly time: string;
  readonly kept: string;
  readonly until: string;
}

function rowsOf({ policy, everyCommitFrom, older }: RetentionStatus, head: number): Row[] {
  if (everyCommitFrom === null) return [];
  const { version, timestamp } = everyCommitFrom;
  const window = policy.everyCommitMs;
  const newest: Row = {
    version: version === head ? String(head) : `${version}..${head}`,
    time: showTime(timestamp),
    kept: version === head ? "head" : "every commit",
    until: window === null ? "for ever" : `${showDuration(window)} after each; the head for ever`,
  };
  const others = older.map((kept): Row => ({
    version: String(kept.version),
    time: showTime(kept.timestamp),
    kept: kept.reasons.join(", "),
    until:
      kept.until === null
        ? kept.reasons.some((reason) => reason.startsWith("tag ") || reason.startsWith("fork "))
          ? "it is needed no more"
          : "for ever"
        : kept.reasons.length === 0
          ? "the next expiry"
          : showTime(kept.until),
  }));
  return [newest, ...others];
}
