/** store: what it is, how it keeps its catalog and compresses new data. */
import { type Command, Option } from "commander";
import type { Backend } from "../../catalog/backends.ts";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { BACKEND_NAMES, readStoreOptions } from "../store-options.ts";
import { showTime } from "../time.ts";

const COMPRESSION = "lz4, zstd, zstd:1 to zstd:22 or none";

export function addStoreCommands(program: Command, context: CommandContext): void {
  const group = program
    .command("store")
    .description("show and change how the store keeps its data");
  group
    .command("info")
    .description(
      "print the store's id, backend, compression, partitions and the size of its catalog",
    )
    .addHelpText("after", examples([["bough store info"], ["bough store info --output json"]]))
    .action(() => info(context));
  group
    .command("set")
    .description("change settings of the store")
    .option("--compression <codec>", `of new chunks and history: ${COMPRESSION}`)
    .option(
      "--partitions <count>",
      "adds partitions until there are so many, at most 256, for good",
    )
    .addHelpText(
      "after",
      examples([["bough store set --compression zstd:3"], ["bough store set --partitions 4"]]),
    )
    .action((options: SetWords) => set(context, options));
  group
    .command("convert")
    .description("move the catalog into another backend; the store must not be open")
    .addOption(
      new Option("--backend <name>", "where the catalog is to be kept")
        .choices(BACKEND_NAMES)
        .makeOptionMandatory(),
    )
    .option("--compression <codec>", `of new chunks and history: ${COMPRESSION}`)
    .addHelpText(
      "after",
      `
The new catalog is checked before it takes the place of the old one. Interrupted at any moment, the store
is as it was, or converted.
${examples([["bough store convert --backend leveldb"]])}`,
    )
    .action((options: { backend: Backend; compression?: string }) => convert(context, options));
  group
    .command("compact")
    .description("give unused space of the catalog back to the system")
    .addHelpText("after", examples([["bough store compact"]]))
    .action(() => compact(context));
}

function info(context: CommandContext): Promise<void> {
  return context.withStore(async (store) => {
    const found = await store.info();
    if (context.format === "json") return context.printJson({ store: store.path, ...found });
    const lines: readonly (readonly [string, string])[] = [
      ["Store", store.path],
      ["Id", found.storeId],
      ["Made", showTime(found.createdAt)],
      ["Backend", `${found.backend}, catalog ${showBytes(found.catalogBytes)}`],
      ["Compression", found.compression],
      ["Encrypted", found.isEncrypted ? "yes" : "no"],
      ["Partitions", String(found.partitions)],
    ];
    for (const [title, text] of lines) await context.printLine(`${title.padEnd(12)} ${text}`);
  });
}

interface SetWords {
  readonly compression?: string;
  readonly partitions?: string;
}

async function set(context: CommandContext, words: SetWords): Promise<void> {
  const { compression } = await readStoreOptions(
    words.compression === undefined ? {} : { compression: words.compression },
  );
  const { partitions: text } = words;
  if (compression === undefined && text === undefined)
    throw new UsageError("Cannot set anything: give --compression or --partitions");
  const count = text === undefined ? null : Number(text);
  if (count !== null && !(Number.isInteger(count) && count >= 1 && count <= 256))
    throw new UsageError(`Cannot read the partitions "${text}": it is not a number from 1 to 256`);
  const done = (path: string, partitions: number): Promise<void> => {
    const what = [
      ...(compression === undefined
        ? []
        : [`New chunks and history are compressed with ${words.compression} from now on`]),
      ...(count === null ? [] : [`There are ${partitions} partitions`]),
    ];
    return context.printDone(`Store "${path}": ${what.join("; ")}`, {
      store: path,
      ...(compression === undefined ? {} : { compression }),
      ...(count === null ? {} : { partitions }),
    });
  };
  if (count !== null) {
    await context.withLocalStore("add partitions to", { partitions: count }, (store) => {
      if (compression !== undefined) store.setCompression(compression);
      return done(store.path, store.info().partitions);
    });
    return;
  }
  await context.withStore(async (store) => {
    if (compression !== undefined) await store.setCompression(compression);
    await done(store.path, 1);
  });
}

async function convert(
  context: CommandContext,
  words: { readonly backend: Backend; readonly compression?: string },
): Promise<void> {
  const { compression } = await readStoreOptions(words);
  const { convertStore } = await import("../../store/convert-store.ts");
  const { backend } = words;
  const path = context.directoryFor("convert");
  const result = await context.withDirectory("convert", () =>
    convertStore(path, { backend, ...(compression === undefined ? {} : { compression }) }),
  );
  const { from, to, entryCount, bytesBefore, bytesAfter } = result;
  const sentence =
    from === to
      ? `Store "${path}" keeps its catalog in ${to} already`
      : `Converted store "${path}" from ${from} to ${to}: ${entryCount} entries, ${showBytes(bytesBefore)} before, ${showBytes(bytesAfter)} after`;
  await context.printDone(sentence, { store: path, ...result });
}

function compact(context: CommandContext): Promise<void> {
  return context.withStore(async (store) => {
    const result = await store.compactCatalog();
    const { bytesBefore, bytesAfter } = result;
    return context.printDone(
      `Compacted the catalog of store "${store.path}": ${showBytes(bytesBefore)} before, ${showBytes(bytesAfter)} after`,
      { store: store.path, ...result },
    );
  });
}
