import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import type { CommandStore } from "../command-store.ts";
import { examples } from "../examples.ts";
import { showTime } from "../time.ts";

export function addTagCommands(program: Command, context: CommandContext): void {
  const group = program.command("tag").description("name versions for good");
  group
    .command("create <database> <name>")
    .description("name the version that a revision is now")
    .option("--at <revision>", "what to name (default: the head of main)")
    .addHelpText(
      "after",
      examples([
        ["bough tag create shop before-import"],
        ["bough tag create shop v1 --at shop/dev@120"],
        ['bough sql shop@before-import "SELECT count(*) FROM orders"', "read it later"],
      ]),
    )
    .action((database: string, name: string, options: { at?: string }) =>
      context.withStore(async (store) => {
        const tag = await store.createTag(database, name, options);
        const sentence = `Created tag "${database}@${name}" at version ${tag.version}`;
        return context.printDone(sentence, tag);
      }),
    );
  group
    .command("list <database>")
    .description("list the tags of a database")
    .addHelpText("after", examples([["bough tag list shop"]]))
    .action((database: string) =>
      context.withStore(async (store) =>
        context.printList(
          await store.tags(database),
          [
            ["tag", ({ name }) => name],
            ["version", ({ version }) => String(version)],
            ["created", ({ createdAt }) => showTime(createdAt)],
          ],
          { whenEmpty: `No tags in "${database}"` },
        ),
      ),
    );
  group
    .command("delete <database> <name>")
    .description("forget the name; the version stays as long as others are kept")
    .addHelpText("after", examples([["bough tag delete shop before-import"]]))
    .action((database: string, name: string) =>
      context.withStore(async (store) => {
        const tags = await store.tags(database);
        const version = tags.find((tag) => tag.name === name)?.version ?? null;
        await store.deleteTag(database, name);
        const at = version === null ? null : await revisionOf(store, database, version);
        const undo =
          at === null ? null : context.commandLine("tag", "create", database, name, "--at", at);
        const sentence = `Deleted tag "${database}@${name}"`;
        return context.printDone(undo === null ? sentence : `${sentence}; to undo: ${undo}`, {
          deleted: `${database}@${name}`,
          version,
          undo,
        });
      }),
    );
}

/** A revision that names the version: on the branch whose history has it. */
async function revisionOf(
  store: CommandStore,
  database: string,
  version: number,
): Promise<string | null> {
  for (const { name, revision } of await store.branches(database)) {
    const [commit] = await store.branchLog(database, name, { before: version, limit: 1 });
    if (commit?.version === version) return `${revision}@${version}`;
  }
  return null;
}
