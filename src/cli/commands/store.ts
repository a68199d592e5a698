/** store: what it is, how it keeps its catalog and compresses new data. */
import { type Command, Option } from "commander";
import type { Backend } from "../../catalog/backends.ts";
import type { CommandContext } from "../command-context.ts";
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
    .description("print the store's id, backend, compression and the size of its catalog")
    .addHelpText("after", examples([["bough store info"], ["bough store info --output json"]]))
    .action(() => info(context));
  group
    .command("set")
    .description("change settings of the store")
    .requiredOption("--compression <codec>", `of new chunks and history: ${COMPRESSION}`)
    .addHelpText("after", examples([["bough store set --compression zstd:3"]]))
    .action((options: { compression: string }) => set(context, options.compression));
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
    const found = store.info();
    if (context.format === "json") return context.printJson({ store: store.path, ...found });
    const lines: readonly (readonly [string, string])[] = [
      ["Store", store.path],
      ["Id", found.storeId],
      ["Made", showTime(found.createdAt)],
      ["Backend", `${found.backend}, catalog ${showBytes(found.catalogBytes)}`],
      ["Compression", found.compression],
      ["Encrypted", found.isEncrypted ? "yes" : "no"],
    ];
    for (const [title, text] of lines) await context.printLine(`${title.padEnd(12)} ${text}`);
  });
}

async function set(context: CommandContext, text: string): Promise<void> {
  const { compression } = await readStoreOptions({ compression: text });
  await context.withStore((store) => {
    if (compression !== undefined) store.setCompression(compression);
    return context.printDone(
      `New chunks and history of store "${store.path}" are compressed with ${text} from now on`,
      { store: store.path, compression },
    );
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
  const result = convertStore(path, {
    backend,
    ...(compression === undefined ? {} : { compression }),
  });
  const { from, to, entryCount, bytesBefore, bytesAfter } = result;
  const sentence =
    from === to
      ? `Store "${path}" keeps its catalog in ${to} already`
      : `Converted store "${path}" from ${from} to ${to}: ${entryCount} entries, ${showBytes(bytesBefore)} before, ${showBytes(bytesAfter)} after`;
  await context.printDone(sentence, { store: path, ...result });
}

function compact(context: CommandContext): Promise<void> {
  return context.withStore((store) => {
    const result = store.compactCatalog();
    const { bytesBefore, bytesAfter } = result;
    return context.printDone(
      `Compacted the catalog of store "${store.path}": ${showBytes(bytesBefore)} before, ${showBytes(bytesAfter)} after`,
      { store: store.path, ...result },
    );
  });
}
