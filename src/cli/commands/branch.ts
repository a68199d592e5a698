import type { Command } from "commander";
import type { BranchFacts } from "../../server/admin/admin-store.ts";
import { type BranchArgument, parseBranch } from "../branch-name.ts";
import type { CommandContext } from "../command-context.ts";
import type { CommandStore } from "../command-store.ts";
import { examples } from "../examples.ts";
import { parseFutureTime, showTime } from "../time.ts";

export function addBranchCommands(program: Command, context: CommandContext): void {
  const group = program.command("branch").description("fork databases and manage the forks");
  addCreateAndList(group, context);
  addNameCommands(group, context);
  addStateCommands(group, context);
}

function addCreateAndList(group: Command, context: CommandContext): void {
  group
    .command("create <database/name>")
    .description("make a branch from a revision; it takes no time and no space")
    .option("--from <revision>", "what it starts as (default: the head of main)")
    .option("--expires-at <time>", "delete it then: 2030-01-31T18:00:00Z, or 7d from now on")
    .addHelpText(
      "after",
      examples([
        ["bough branch create shop/dev"],
        ["bough branch create shop/fix --from shop@120", "from an earlier version"],
        ["bough branch create shop/test --from shop/dev@-1h --expires-at 7d"],
      ]),
    )
    .action((name: string, options: CreateOptions) => create(context, name, options));
  group
    .command("list <database>")
    .description("list the branches of a database")
    .addHelpText("after", examples([["bough branch list shop"]]))
    .action((database: string) => list(context, database));
}

function addNameCommands(group: Command, context: CommandContext): void {
  group
    .command("rename <database/name> <new-name>")
    .description("give a branch another name")
    .addHelpText("after", examples([["bough branch rename shop/dev feature/cart"]]))
    .action((name: string, to: string) =>
      withBranch(context, name, async (store, { database, branch }) => {
        const renamed = await store.renameBranch(database, branch, to);
        const sentence = `Renamed branch "${database}/${branch}" to "${renamed.revision}"`;
        return context.printDone(sentence, renamed);
      }),
    );
  group
    .command("delete <database/name>")
    .description("delete a branch; it can be undeleted")
    .addHelpText("after", examples([["bough branch delete shop/dev"]]))
    .action((name: string) =>
      withBranch(context, name, async (store, { database, branch }) => {
        const revision = `${database}/${branch}`;
        await store.deleteBranch(database, branch);
        const undo = context.commandLine("branch", "undelete", revision);
        const sentence = `Deleted branch "${revision}"; to undo: ${undo}`;
        return context.printDone(sentence, { deleted: revision, undo });
      }),
    );
  group
    .command("undelete <database/name>")
    .description("bring back the branch of that name that was deleted last")
    .addHelpText("after", examples([["bough branch undelete shop/dev"]]))
    .action((name: string) =>
      withBranch(context, name, async (store, { database, branch }) => {
        const restored = await store.undeleteBranch(database, branch);
        return context.printDone(`Branch "${restored.revision}" is back`, restored);
      }),
    );
}

function addStateCommands(group: Command, context: CommandContext): void {
  group
    .command("reset <database/name>")
    .description("make a branch what its parent is now, or what a revision is")
    .option("--to <revision>", "what it becomes (default: the head of its parent)")
    .addHelpText(
      "after",
      examples([
        ["bough branch reset shop/dev", "like its parent again"],
        ["bough branch reset shop/dev --to shop@120"],
      ]),
    )
    .action((name: string, options: { to?: string }) => reset(context, name, options));
  group
    .command("protect <database/name>")
    .description("refuse to delete, reset or expire a branch")
    .addHelpText("after", examples([["bough branch protect shop/main"]]))
    .action((name: string) =>
      withBranch(context, name, async (store, { database, branch }) => {
        const set = await store.setProtection(database, branch, true);
        return context.printDone(`Protected branch "${set.revision}"`, set);
      }),
    );
  group
    .command("unprotect <database/name>")
    .description("allow it again")
    .addHelpText("after", examples([["bough branch unprotect shop/main"]]))
    .action((name: string) =>
      withBranch(context, name, async (store, { database, branch }) => {
        const set = await store.setProtection(database, branch, false);
        return context.printDone(`Branch "${set.revision}" is not protected any more`, set);
      }),
    );
  group
    .command("set-expiration <database/name> <time>")
    .description('delete a branch at a time: 2030-01-31T18:00:00Z, 7d from now on, or "never"')
    .addHelpText(
      "after",
      examples([
        ["bough branch set-expiration shop/test 7d"],
        ["bough branch set-expiration shop/test never"],
      ]),
    )
    .action((name: string, time: string) => setExpiration(context, name, time));
}

interface CreateOptions {
  readonly from?: string;
  readonly expiresAt?: string;
}

function create(context: CommandContext, name: string, options: CreateOptions): Promise<void> {
  const { database, branch } = parseBranch(name);
  const { from, expiresAt } = options;
  const expiration = expiresAt === undefined ? null : parseFutureTime(expiresAt, Date.now());
  return context.withStore(async (store) => {
    const created = await store.createBranch(database, branch, {
      ...(from === undefined ? {} : { from }),
      ...(expiration === null ? {} : { expiresAt: expiration }),
    });
    const source = `from "${from ?? database}" at version ${created.head.version}`;
    const until = expiration === null ? "" : `; it expires at ${showTime(expiration)}`;
    return context.printDone(`Created branch "${created.revision}" ${source}${until}`, created);
  });
}

function list(context: CommandContext, database: string): Promise<void> {
  return context.withStore(async (store) =>
    context.printList(
      await store.branches(database),
      [
        ["branch", ({ name }) => name],
        ["version", ({ head }) => String(head.version)],
        ["pages", ({ head }) => String(head.pageCount)],
        ["committed", ({ head }) => showTime(head.timestamp)],
        ["parent", parentOf],
        ["expires", ({ expiresAt }) => showTime(expiresAt)],
        ["protected", ({ isProtected }) => (isProtected ? "yes" : "")],
      ],
      { whenEmpty: "No branches" },
    ),
  );
}

function parentOf({ parent, forkVersion }: BranchFacts): string {
  if (parent === null) return "";
  return forkVersion === null ? parent : `${parent}@${forkVersion}`;
}

function reset(context: CommandContext, name: string, options: { to?: string }): Promise<void> {
  return withBranch(context, name, async (store, { database, branch }) => {
    const before = (await store.branchFacts(database, branch)).head.version;
    const changed = await store.resetBranch(database, branch, options);
    const { revision } = changed;
    const undo =
      before === 0
        ? null
        : context.commandLine("branch", "reset", revision, "--to", `${revision}@${before}`);
    const sentence = `Reset branch "${revision}" to version ${changed.head.version}`;
    return context.printDone(undo === null ? sentence : `${sentence}; to undo: ${undo}`, {
      ...changed,
      undo,
    });
  });
}

function setExpiration(context: CommandContext, name: string, time: string): Promise<void> {
  const at = time === "never" ? null : parseFutureTime(time, Date.now());
  return withBranch(context, name, async (store, { database, branch }) => {
    const set = await store.setExpiration(database, branch, at);
    const what = at === null ? "does not expire" : `expires at ${showTime(at)}`;
    return context.printDone(`Branch "${set.revision}" ${what}`, set);
  });
}

function withBranch(
  context: CommandContext,
  name: string,
  body: (store: CommandStore, named: BranchArgument) => Promise<void>,
): Promise<void> {
  const named = parseBranch(name);
  return context.withStore((store) => body(store, named));
}
