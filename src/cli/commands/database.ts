import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { addStoreOptions, readStoreOptions, type StoreWords } from "../store-options.ts";
import { showTime } from "../time.ts";

export function addDatabaseCommands(program: Command, context: CommandContext): void {
  const group = program
    .command("database")
    .description("create, list, rename and delete databases");
  addStoreOptions(
    group
      .command("create <database>")
      .description("make an empty database, and the store when there is none")
      .option("--page-size <bytes>", "512 to 65536, a power of two (default: 4096)"),
  )
    .addHelpText(
      "after",
      examples([["bough database create shop"], ["bough database create logs --page-size 16384"]]),
    )
    .action((name: string, options: { pageSize?: string } & StoreWords) =>
      create(context, name, options),
    );
  group
    .command("list")
    .description("list the databases of the store")
    .addHelpText("after", examples([["bough database list"]]))
    .action(() => list(context));
  group
    .command("rename <database> <name>")
    .description("give a database another name")
    .addHelpText("after", examples([["bough database rename shop store"]]))
    .action((name: string, to: string) => rename(context, name, to));
  group
    .command("delete <database>")
    .description("delete a database with all its branches; it can be undeleted")
    .addHelpText("after", examples([["bough database delete shop"]]))
    .action((name: string) => remove(context, name));
  group
    .command("undelete <database>")
    .description("bring back the database of that name that was deleted last")
    .addHelpText("after", examples([["bough database undelete shop"]]))
    .action((name: string) => undelete(context, name));
}

async function create(
  context: CommandContext,
  name: string,
  options: { pageSize?: string } & StoreWords,
): Promise<void> {
  const pageSize = options.pageSize === undefined ? undefined : Number(options.pageSize);
  if (Number.isNaN(pageSize))
    throw new UsageError(`Cannot read the page size "${options.pageSize}": it is not a number`);
  const { checkName } = await import("../../branch/names.ts");
  const { checkPageSize } = await import("../../branch/ref-operations.ts");
  // Before a store is made for it.
  checkName("database", name);
  if (pageSize !== undefined) checkPageSize(pageSize);
  const storeOptions = await readStoreOptions(options);
  await context.withStore(
    (store) => {
      const database = store.createDatabase(name, pageSize === undefined ? {} : { pageSize });
      return context.printDone(`Created database "${name}"`, database);
    },
    { create: true, ...storeOptions },
  );
}

function list(context: CommandContext): Promise<void> {
  return context.withStore((store) => {
    const records = store.databases().map((database) => ({
      name: database.name,
      branches: database.branches().length,
      version: database.version,
      pageSize: database.pageSize,
      createdAt: database.createdAt,
    }));
    return context.printList(
      records,
      [
        ["database", ({ name }) => name],
        ["branches", ({ branches }) => String(branches)],
        ["versions", ({ version }) => String(version)],
        ["page size", ({ pageSize }) => String(pageSize)],
        ["created", ({ createdAt }) => showTime(createdAt)],
      ],
      {
        whenEmpty: `No databases; make one with "${context.commandLine("import", "FILE", "NAME")}"`,
      },
    );
  });
}

function rename(context: CommandContext, name: string, to: string): Promise<void> {
  return context.withStore((store) => {
    store.database(name).rename(to);
    return context.printDone(`Renamed database "${name}" to "${to}"`, { name: to, was: name });
  });
}

function remove(context: CommandContext, name: string): Promise<void> {
  return context.withStore((store) => {
    store.database(name).delete();
    const undo = context.commandLine("database", "undelete", name);
    return context.printDone(`Deleted database "${name}"; to undo: ${undo}`, {
      deleted: name,
      undo,
    });
  });
}

function undelete(context: CommandContext, name: string): Promise<void> {
  return context.withStore((store) => {
    const database = store.undeleteDatabase(name);
    return context.printDone(`Database "${name}" is back`, database);
  });
}
