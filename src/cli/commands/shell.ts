import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { ExitCode, reportFailure } from "../errors.ts";
import { examples } from "../examples.ts";

export function addShellCommand(program: Command, context: CommandContext): void {
  program
    .command("shell <revision>")
    .description("type SQL, with history; .help lists the shell's own commands")
    .addHelpText(
      "after",
      `
Lines from a pipe work too: then nothing but results is printed, and the first error ends the run.
The history is kept in ~/.bough_history, or the file that BOUGH_HISTORY names.
${examples([["bough shell shop"], ["bough shell shop/dev@-1h", "look around in the past"], ["echo .dump | bough shell shop > shop.sql"]])}`,
    )
    .action((revision: string) => shell(context, revision));
}

async function shell(context: CommandContext, revision: string): Promise<void> {
  const { ShellSession } = await import("../shell-session.ts");
  const { PipeLines, TerminalLines } = await import("../shell-lines.ts");
  const { requireNoTransaction } = await import("../run-sql.ts");
  const { terminal, output, errors } = context;
  const isInteractive = terminal.stdin.isTTY === true;
  await context.withStore(async (store) => {
    const session = await ShellSession.open(context, store, revision);
    if (isInteractive) await context.printLine('Type SQL, ".help" for commands, ".quit" to leave.');
    await output.flush();
    const lines = isInteractive
      ? new TerminalLines(terminal)
      : new PipeLines(terminal, () => output.flush());
    try {
      while (!session.isDone) {
        const line = await lines.next(() => session.prompt());
        if (line === null) break;
        if (line === "cancelled") {
          session.cancel();
          continue;
        }
        try {
          await session.feed(line.text);
        } catch (error) {
          if (!isInteractive) throw error;
          await output.flush();
          const exitCode = await reportFailure(error, { stderr: errors, json: false });
          await errors.flush();
          if (exitCode === ExitCode.bug) throw error;
        }
        if (isInteractive) await output.flush();
      }
      if (!isInteractive) {
        await session.finish();
        await requireNoTransaction(session.connection);
      } else if (!session.isDone) await context.printLine("");
    } finally {
      lines.close();
      await session.connection.close();
    }
  });
}
