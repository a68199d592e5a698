import type { Command } from "commander";
import type { Column, CommandContext } from "../command-context.ts";
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
      .option("--page-size <bytes>", "512 to 65536, a power of two (default: 4096)")
      .option("--partition <n>", "of a store with several (default: that with the fewest)"),
  )
    .addHelpText(
      "after",
      examples([["bough database create shop"], ["bough database create logs --page-size 16384"]]),
    )
    .action((name: string, options: CreateWords) => create(context, name, options));
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
  group
    .command("hand-over <database>")
    .description("move a database with all its branches and versions to another partition")
    .requiredOption("--partition <n>", "where to, from 0")
    .addHelpText("after", examples([["bough database hand-over shop --partition 2"]]))
    .action((name: string, options: { partition: string }) =>
      handOver(context, name, options.partition),
    );
}

type CreateWords = { readonly pageSize?: string; readonly partition?: string } & StoreWords;

function partitionOf(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new UsageError(`Cannot read the partition "${text}": it is not a number from 0`);
}

function handOver(context: CommandContext, name: string, to: string): Promise<void> {
  const partition = partitionOf(to);
  return context.withStore(async (store) => {
    const { partitions } = await store.info();
    if (partition >= partitions)
      throw new UsageError(
        `Cannot hand over to partition ${partition}: the store has ${partitions}, from 0 on; "${context.commandLine("store", "set", "--partitions", "N")}" adds some`,
      );
    await store.handOver(name, partition);
    return context.printDone(`Handed database "${name}" over to partition ${partition}`, {
      name,
      partition,
    });
  });
}

async function create(context: CommandContext, name: string, options: CreateWords): Promise<void> {
  const partition = options.partition === undefined ? undefined : partitionOf(options.partition);
  const pageSize = options.pageSize === undefined ? undefined : Number(options.pageSize);
  if (Number.isNaN(pageSize) || options.pageSize?.trim() === "")
    throw new UsageError(`Cannot read the page size "${options.pageSize}": it is not a number`);
  const { checkName } = await import("../../branch/names.ts");
  const { checkPageSize } = await import("../../branch/ref-operations.ts");
  // Before a store is made for it.
  checkName("database", name);
  if (pageSize !== undefined) checkPageSize(pageSize);
  const storeOptions = await readStoreOptions(options);
  await context.withStore(
    async (store) => {
      const database = await store.createDatabase(name, {
        ...(pageSize === undefined ? {} : { pageSize }),
        ...(partition === undefined ? {} : { partition }),
      });
      return context.printDone(`Created database "${name}"`, database);
    },
    { create: true, ...storeOptions },
  );
}

function list(context: CommandContext): Promise<void> {
  return context.withStore(async (store) => {
    const databases = await store.databases();
    const records = await Promise.all(
      databases.map(async ({ name, version, pageSize, createdAt, partition }) => {
        const branches = (await store.branches(name)).length;
        return { name, branches, version, pageSize, createdAt, partition };
      }),
    );
    const hasPartitions = records.some(({ partition }) => partition > 0);
    return context.printList(
      records,
      [
        ["database", ({ name }) => name],
        ["branches", ({ branches }) => String(branches)],
        ["versions", ({ version }) => String(version)],
        ["page size", ({ pageSize }) => String(pageSize)],
        ["created", ({ createdAt }) => showTime(createdAt)],
        ...(hasPartitions ? [PARTITION_COLUMN] : []),
      ],
      {
        whenEmpty: `No databases; make one with "${context.commandLine("import", "FILE", "NAME")}"`,
      },
    );
  });
}

const PARTITION_COLUMN: Column<{ readonly partition: number }> = [
  "partition",
  ({ partition }) => String(partition),
];

function rename(context: CommandContext, name: string, to: string): Promise<void> {
  return context.withStore(async (store) => {
    await store.renameDatabase(name, to);
    return context.printDone(`Renamed database "${name}" to "${to}"`, { name: to, was: name });
  });
}

function remove(context: CommandContext, name: string): Promise<void> {
  return context.withStore(async (store) => {
    await store.deleteDatabase(name);
    const undo = context.commandLine("database", "undelete", name);
    return context.printDone(`Deleted database "${name}"; to undo: ${undo}`, {
      deleted: name,
      undo,
    });
  });
}

function undelete(context: CommandContext, name: string): Promise<void> {
  return context.withStore(async (store) => {
    const database = await store.undeleteDatabase(name);
    return context.printDone(`Database "${name}" is back`, database);
  });
}
