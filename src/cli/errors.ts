/**
 * How a command fails, and what it says then.
 *
 *   0  done
 *   1  an expected failure: "bough: message" on stderr (an error of bough, of SQLite, of the system)
 *   2  wrong usage: an unknown command or option, a missing argument, a value that cannot be read
 *   3  a bug in bough: the message asks to report it, with the stack trace
 *
 * With --output json a failure is also one line on stderr: {"error":{"code":"...","message":"..."}}.
 */
import type { TextOutput } from "./terminal.ts";

export const ExitCode = { done: 0, failed: 1, usage: 2, bug: 3 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A failure with a code that is no StoreError's: exit code 1. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code: string;

  constructor(code: string, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

interface Failure {
  readonly exitCode: ExitCode;
  readonly code: string;
  readonly message: string;
}

export function describeFailure(error: unknown): Failure {
  if (!(error instanceof Error))
    return { exitCode: ExitCode.bug, code: "BUG", message: reportRequest(String(error)) };
  if (error instanceof UsageError)
    return { exitCode: ExitCode.usage, code: "USAGE", message: error.message };
  const code = "code" in error && typeof error.code === "string" ? error.code : null;
  // StoreError, SqliteError, CommandError and errors of the system; bugs carry no code, or Node's own.
  if (code !== null && !code.startsWith("ERR_"))
    return { exitCode: ExitCode.failed, code, message: error.message };
  return {
    exitCode: ExitCode.bug,
    code: "BUG",
    message: reportRequest(error.stack ?? error.message),
  };
}

function reportRequest(what: string): string {
  return `This is a bug in bough, please report it with these lines and what you did: ${what}`;
}

/** Names in it may be those of others: they neither begin a line nor steer the terminal. */
function onOneLine(message: string): string {
  return message.replaceAll(/\p{C}/gu, (character) => {
    const [, escaped = ""] = /^"(\\.*)"$/.exec(JSON.stringify(character)) ?? [];
    return escaped === "" ? `\\u{${character.codePointAt(0)?.toString(16)}}` : escaped;
  });
}

/** Tells the user; returns the exit code. */
export async function reportFailure(
  error: unknown,
  options: { readonly stderr: TextOutput; readonly json: boolean },
): Promise<ExitCode> {
  const { exitCode, code, message } = describeFailure(error);
  const line = exitCode === ExitCode.bug ? message : onOneLine(message);
  const text = options.json
    ? `${JSON.stringify({ error: { code, message } })}\n`
    : `bough: ${line}\n`;
  await options.stderr.write(text);
  return exitCode;
}
