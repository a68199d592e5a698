import type { Command } from "commander";
import type { Database } from "../../store/database.ts";
import type { CommandContext } from "../command-context.ts";
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
      context.withStore((store) => {
        const tag = store.database(database).createTag(name, options);
        const sentence = `Created tag "${database}@${name}" at version ${tag.version}`;
        return context.printDone(sentence, tag);
      }),
    );
  group
    .command("list <database>")
    .description("list the tags of a database")
    .addHelpText("after", examples([["bough tag list shop"]]))
    .action((database: string) =>
      context.withStore((store) =>
        context.printList(
          store.database(database).tags(),
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
    .action((databaseName: string, name: string) =>
      context.withStore((store) => {
        const database = store.database(databaseName);
        const version = database.tags().find((tag) => tag.name === name)?.version ?? null;
        database.deleteTag(name);
        const at = version === null ? null : revisionOf(database, version);
        const undo =
          at === null ? null : context.commandLine("tag", "create", databaseName, name, "--at", at);
        const sentence = `Deleted tag "${databaseName}@${name}"`;
        return context.printDone(undo === null ? sentence : `${sentence}; to undo: ${undo}`, {
          deleted: `${databaseName}@${name}`,
          version,
          undo,
        });
      }),
    );
}

/** A revision that names the version: on the branch whose history has it. */
function revisionOf(database: Database, version: number): string | null {
  for (const branch of database.branches()) {
    const [commit] = branch.log({ before: version, limit: 1 });
    if (commit?.version === version) return `${branch.revision}@${version}`;
  }
  return null;
}
