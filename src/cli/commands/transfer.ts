/** import and export: plain SQLite files in and out. */
import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { ProgressBar } from "../progress.ts";
import { addStoreOptions, readStoreOptions, type StoreWords } from "../store-options.ts";

export function addTransferCommands(program: Command, context: CommandContext): void {
  addStoreOptions(
    program
      .command("import <file> <database[/branch]>")
      .description(
        "make a SQLite file the content of a branch; makes what is missing, the store too",
      ),
  )
    .addHelpText(
      "after",
      `
Committed changes in a write-ahead log (FILE-wal) beside the file are included. The import is one
commit: earlier versions of an existing branch stay readable.
${examples([
  ["bough import shop.db shop"],
  ["bough import shop.db shop/from-production", "as a branch"],
])}`,
    )
    .action((file: string, target: string, words: StoreWords) =>
      importFile(context, file, target, words),
    );
  program
    .command("export <revision> <file>")
    .description("write a revision as a plain SQLite file")
    .option("--overwrite", "replace an existing file")
    .addHelpText(
      "after",
      examples([
        ["bough export shop shop.db"],
        ["bough export shop@120 old.db --overwrite"],
        ["bough export shop/dev@-1h dev.db"],
      ]),
    )
    .action((revision: string, file: string, options: { overwrite?: true }) =>
      exportFile(context, { revision, file, overwrite: options.overwrite ?? false }),
    );
}

async function importFile(
  context: CommandContext,
  file: string,
  target: string,
  words: StoreWords,
): Promise<void> {
  const { parseRevision } = await import("../../branch/revision.ts");
  const { SqliteSource } = await import("../../store/sqlite-source.ts");
  parseRevision(target);
  const storeOptions = await readStoreOptions(words);
  // A file that cannot be imported must not leave an empty store behind.
  (await SqliteSource.open(file)).close();
  await context.withStore(
    async (store) => {
      const startedMs = performance.now();
      const result = await withBar(context, `Importing "${file}"`, (onProgress) =>
        store.importFile(file, target, { onProgress }),
      );
      const bytes = result.pageCount * result.pageSize;
      const { database, branch, version, walCommits } = result;
      const log = walCommits === 0 ? "" : `, ${walCommits} commits of its write-ahead log included`;
      const sentence = `Imported "${file}" as "${database}/${branch}", version ${version}: ${speed(bytes, startedMs)}${log}`;
      await context.printDone(sentence, { ...result, bytes });
    },
    { create: true, ...storeOptions },
  );
}

function exportFile(
  context: CommandContext,
  request: { revision: string; file: string; overwrite: boolean },
): Promise<void> {
  const { revision, file, overwrite } = request;
  return context.withStore(async (store) => {
    const startedMs = performance.now();
    const result = await withBar(context, `Exporting "${revision}"`, (onProgress) =>
      store.exportFile(revision, file, { onProgress, overwrite }),
    );
    const sentence = `Exported "${revision}", version ${result.version}, to "${file}": ${speed(result.bytes, startedMs)}`;
    await context.printDone(sentence, { revision, file, ...result });
  });
}

async function withBar<T>(
  context: CommandContext,
  title: string,
  body: (onProgress: (progress: { bytes: number; totalBytes: number }) => void) => Promise<T>,
): Promise<T> {
  const bar = new ProgressBar(title, context.terminal.stderr);
  try {
    return await body(({ bytes, totalBytes }) =>
      bar.update({
        done: bytes,
        total: totalBytes,
        text: `${showBytes(bytes)} of ${showBytes(totalBytes)}`,
      }),
    );
  } finally {
    bar.end();
  }
}

function speed(bytes: number, startedMs: number): string {
  const seconds = (performance.now() - startedMs) / 1000;
  return `${showBytes(bytes)} in ${seconds.toFixed(2)} s`;
}
