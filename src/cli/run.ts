/** One run of the command line, from arguments to exit code. */
import { CommanderError } from "commander";
import { CommandContext } from "./command-context.ts";
import { ExitCode, reportFailure, UsageError } from "./errors.ts";
import { makeProgram } from "./program.ts";
import type { Terminal } from "./terminal.ts";
import { version } from "./version.ts";

/** `argv` are the arguments after the program's name. Resolves with the exit code (see errors.ts); never rejects. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<ExitCode> {
  const context = new CommandContext(terminal);
  const exitCode = await runCommand(argv, context);
  try {
    await context.output.flush();
    await context.errors.flush();
    return exitCode;
  } catch (error) {
    // The output itself failed (a full disk, for example), maybe the error output works.
    return await reportAndFlush(error, context, argv);
  } finally {
    context.output.release();
    context.errors.release();
  }
}

async function runCommand(argv: readonly string[], context: CommandContext): Promise<ExitCode> {
  try {
    const program = makeProgram(context, version());
    await program.parseAsync([...argv], { from: "user" });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return ExitCode.done;
      // A command group without a command: its help went to stderr.
      if (error.code === "commander.help") return ExitCode.usage;
      return await reportAndFlush(usageError(error), context, argv);
    }
    return await reportAndFlush(error, context, argv);
  }
}

async function reportAndFlush(
  error: unknown,
  context: CommandContext,
  argv: readonly string[],
): Promise<ExitCode> {
  // Results that came before the error come before its message.
  await settle(context.output.flush());
  const exitCode = await reportFailure(error, {
    stderr: context.errors,
    json: wantsJson(argv),
  });
  await settle(context.errors.flush());
  return exitCode;
}

/** Also when the arguments could not be read. */
function wantsJson(argv: readonly string[]): boolean {
  return argv.some(
    (argument, index) =>
      argument === "--output=json" || (argument === "--output" && argv[index + 1] === "json"),
  );
}

function usageError(error: CommanderError): UsageError {
  const message = error.message
    .replace(/^error: /, "")
    .replace(/\.$/, "")
    .replace(/^./, (first) => first.toUpperCase())
    .replaceAll(/'([^']*)'/g, '"$1"');
  // "bough branch set-expiration shop/dev -5m"
  const value = /^Unknown option "(-[0-9][^"]*)"/.exec(message)?.[1];
  if (value !== undefined)
    return new UsageError(
      `Unknown option "${value}": it begins with "-"; if it is meant as a value, put "--" before it`,
    );
  const [what, suggestion] = message.split("\n", 2);
  const hint =
    suggestion === undefined ? 'see "bough help"' : suggestion.replace(/^\((.*)\)$/, "$1");
  return new UsageError(
    `${what}; ${hint.replace(/^Did you mean (?:one of )?(.*)\?$/, 'did you mean "$1"?')}`,
  );
}

/** Waits for an output whose failure there is nobody left to tell. */
async function settle(flushing: Promise<void>): Promise<void> {
  await Promise.allSettled([flushing]);
}
