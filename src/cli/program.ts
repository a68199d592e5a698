/** The command line's grammar: global options, all commands, help. Nothing here loads the engine. */
import { Command, Option } from "commander";
import { CommandContext, type GlobalOptions } from "./command-context.ts";
import { addBranchCommands } from "./commands/branch.ts";
import { addCheckCommand } from "./commands/check.ts";
import { addDatabaseCommands } from "./commands/database.ts";
import { addGcCommand } from "./commands/gc.ts";
import { addKeyCommands } from "./commands/key.ts";
import { addLogCommand } from "./commands/log.ts";
import { addRemoteCommands } from "./commands/remote.ts";
import { addRestoreCommand } from "./commands/restore.ts";
import { addRestoreStoreCommand } from "./commands/restore-store.ts";
import { addRetentionCommands } from "./commands/retention.ts";
import { addScrubCommand } from "./commands/scrub.ts";
import { addServeCommand } from "./commands/serve.ts";
import { addShellCommand } from "./commands/shell.ts";
import { addSqlCommand } from "./commands/sql.ts";
import { addStatCommand } from "./commands/stat.ts";
import { addStoreCommands } from "./commands/store.ts";
import { addTagCommands } from "./commands/tag.ts";
import { addTokenCommands } from "./commands/token.ts";
import { addTransferCommands } from "./commands/transfer.ts";
import { UsageError } from "./errors.ts";
import { examples } from "./examples.ts";

/** Commands that print rows, which csv can hold. */
const CSV_COMMANDS: ReadonlySet<string> = new Set(["sql", "shell"]);

/** Before or after the command. */
function globalOptions(): Option[] {
  return [
    new Option(
      "--store <dir|url>",
      "directory of the store, or s3://bucket/prefix to read one there (default: $BOUGH_STORE, then ./bough)",
    ),
    new Option(
      "--url <url>",
      "the server that has the store, http://host:8080 (default: $BOUGH_URL); see bough serve",
    ),
    new Option(
      "--token <token>",
      "what the server lets in, from bough token create (default: $BOUGH_TOKEN)",
    ),
    new Option("--token-file <file>", "file with the token"),
    new Option("--output <format>", "how to print results; csv: only for rows of SQL")
      .choices(["table", "json", "csv"])
      .default("table"),
    new Option(
      "--key-file <file>",
      "file with the key of an encrypted store (default: $BOUGH_KEY)",
    ),
    new Option("--take-over", "with --store URL: become its writer; the one there now stops"),
    new Option(
      "--directory <dir>",
      "with --store URL: what it needs on this machine (default: in ~/.cache, with --take-over ~/.local/share)",
    ),
    new Option(
      "--durability <what>",
      "when a change is done; remote: once object storage has it (default: full)",
    ).choices(["full", "normal", "off", "remote"]),
  ];
}

export function makeProgram(context: CommandContext, version: string): Command {
  const program = new Command("bough")
    .description("Git-like branches for SQLite: fork, time-travel and restore SQLite databases.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void context.output.write(text),
      writeErr: (text) => void context.errors.write(text),
      // What is wrong is reported by `run`, in one place for all kinds of errors.
      outputError: () => {},
      getOutHelpWidth: () => Math.min(context.output.columns, 100),
      getErrHelpWidth: () => Math.min(context.errors.columns, 100),
    })
    .hook("preAction", (_, command) => {
      context.configure(command.optsWithGlobals<GlobalOptions>());
      if (context.format === "csv" && !CSV_COMMANDS.has(command.name()))
        throw new UsageError('Cannot print this as csv: only "bough sql" and "bough shell" can');
    });
  for (const option of globalOptions()) program.addOption(option);
  addTransferCommands(program, context);
  addSqlCommand(program, context);
  addShellCommand(program, context);
  addServeCommand(program, context);
  addDatabaseCommands(program, context);
  addBranchCommands(program, context);
  addTagCommands(program, context);
  addLogCommand(program, context);
  addRestoreCommand(program, context);
  addRetentionCommands(program, context);
  addStatCommand(program, context);
  addCheckCommand(program, context);
  addGcCommand(program, context);
  addScrubCommand(program, context);
  addStoreCommands(program, context);
  addRemoteCommands(program, context);
  addRestoreStoreCommand(program, context);
  addKeyCommands(program, context);
  addTokenCommands(program, context);
  addHelpCommand(program);
  program.addHelpText(
    "after",
    `
A revision names a snapshot: DATABASE[/BRANCH][@VERSION | @TIME | @TAG], for example
  shop   shop/dev   shop@120   shop/dev@2026-11-20T10:00:00Z   shop@-5m   shop@before-import
${examples([
  ["bough import shop.db shop", "bring a SQLite file into the store"],
  ["bough branch create shop/dev", "fork it, in no time and without a copy"],
  ['bough sql shop/dev "DELETE FROM orders"', "change the fork; shop stays as it is"],
  ["bough restore shop/dev --to shop/dev@-5m", "go back five minutes"],
  ["bough export shop/dev dev.db", "write a plain SQLite file"],
  ["bough remote set s3://backups/shop", "keep the store in object storage, too"],
  ["bough stat --url https://bough.example.com --token-file token", "of the store of a server"],
])}

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a bug in bough.`,
  );
  return program;
}

function addHelpCommand(program: Command): void {
  program
    .command("help [command...]")
    .description("print help for a command")
    .addHelpText("after", examples([["bough help branch create"]]))
    .action((path: string[]) => {
      let command = program;
      for (const name of path) {
        const next = command.commands.find((child) => child.name() === name);
        if (next === undefined)
          throw new UsageError(
            `Cannot find help for "${path.join(" ")}": ${command === program ? "bough" : `"${commandPath(command)}"`} has the commands ${command.commands.map((child) => child.name()).join(", ") || "none"}`,
          );
        command = next;
      }
      command.outputHelp();
    });
}

function commandPath(command: Command): string {
  const { parent } = command;
  return parent === null ? command.name() : `${commandPath(parent)} ${command.name()}`;
}
