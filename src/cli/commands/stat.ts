import type { Command } from "commander";
import { StoreError } from "../../errors.ts";
import type { FollowerStatus } from "../../store/follower.ts";
import type { RemoteStatus } from "../../store/remote-status.ts";
import type { StoreStatistics } from "../../store/statistics.ts";
import type { CommandContext } from "../command-context.ts";
import type { CommandStore } from "../command-store.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { followerLines, remoteStatusLines } from "./remote.ts";

export function addStatCommand(program: Command, context: CommandContext): void {
  program
    .command("stat [database]")
    .description("print sizes: of branches, what they share, what is stored")
    .addHelpText(
      "after",
      `
"own" is what no other branch has: about what deleting the branch would free.
${examples([["bough stat"], ["bough stat shop --output json"]])}`,
    )
    .action((database: string | undefined) =>
      context.withStore(async (store) => {
        const statistics = await store.statistics(database);
        const remote = await remoteOf(context, store);
        if (context.format === "json")
          return context.printJson({ ...statistics, ...(remote === null ? {} : { remote }) });
        await printStatistics(context, statistics);
        if (remote === null) return;
        const lines = "state" in remote ? remoteStatusLines(remote) : followerLines(remote);
        for (const line of lines) await context.printLine(line);
      }),
    );
}

/** Null when the store has nothing to do with object storage, and for who may not know. */
async function remoteOf(
  context: CommandContext,
  store: CommandStore,
): Promise<RemoteStatus | FollowerStatus | null> {
  try {
    const follower = await store.followerStatus();
    if (follower !== null) return follower;
    if (context.isRemote || (await store.uploadStatus()) === null) return null;
    return await store.remoteStatus();
  } catch (error) {
    if (error instanceof StoreError && error.code === "FORBIDDEN") return null;
    throw error;
  }
}

async function printStatistics(
  context: CommandContext,
  statistics: StoreStatistics,
): Promise<void> {
  const { logicalBytes, uniqueBytes, storedBytes, databases, disk } = statistics;
  await context.printList(
    databases.flatMap(({ name: database, branches }) =>
      branches.map((branch) => ({ ...branch, database })),
    ),
    [
      ["branch", ({ database, name }) => `${database}/${name}`],
      ["version", ({ version }) => String(version)],
      ["pages", ({ pageCount }) => String(pageCount)],
      ["size", ({ bytes }) => showBytes(bytes)],
      ["own", ({ ownBytes }) => showBytes(ownBytes)],
      ["own, stored", ({ ownStoredBytes }) => showBytes(ownStoredBytes)],
    ],
    { whenEmpty: "No databases" },
  );
  const lines: readonly (readonly [string, number, string])[] = [
    ["As separate files", logicalBytes, ""],
    ["Different pages", uniqueBytes, saving("sharing", statistics.dedupSavedBytes, logicalBytes)],
    ["Stored", storedBytes, saving("compression", statistics.compressionSavedBytes, uniqueBytes)],
    [
      "Store on disk",
      disk.totalBytes,
      `chunks ${showBytes(disk.chunkBytes)} (${disk.compression}), history ${showBytes(disk.historyBytes)}, log ${showBytes(disk.logBytes)}, catalog ${showBytes(disk.catalogBytes)} (${disk.backend})`,
    ],
  ];
  for (const [title, bytes, remark] of lines)
    await context.printLine(
      `${title.padEnd(18)} ${showBytes(bytes).padStart(10)}  ${remark}`.trimEnd(),
    );
}

function saving(what: string, saved: number, of: number): string {
  if (of === 0) return "";
  return `${what} saves ${showBytes(saved)}, ${Math.round((saved / of) * 100)}%`;
}
