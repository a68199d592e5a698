/**
 * The server's log: one line of JSON for each event, {"level":"info","time":"2026-11-20T10:00:00.000Z","event":"server.start",...}.
 *
 * W1. Never in it: tokens, headers, bodies, parameters of statements, keys. The text of a statement only where it was slow.
 */
import type { LogLevel } from "../setting-list.ts";

export type LogFacts = Readonly<Record<string, string | number | boolean | null>>;

type Write = (event: string, facts?: LogFacts) => void;

export interface ServerLog {
  /** Whether `debug` does anything: facts need not be put together for nothing. */
  readonly isDebug: boolean;
  readonly debug: Write;
  readonly info: Write;
  readonly warn: Write;
  readonly error: Write;
}

const nothing = (): void => {};

export const NO_LOG: ServerLog = {
  isDebug: false,
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
};

/** `write` gets a line with its end. */
export async function makeServerLog(
  level: LogLevel,
  write: (line: string) => void,
): Promise<ServerLog> {
  if (level === "off") return NO_LOG;
  const { pino } = await import("pino");
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write },
  );
  const at =
    (name: Exclude<LogLevel, "off">): Write =>
    (event, facts = {}) =>
      logger[name]({ event, ...facts });
  return {
    isDebug: level === "debug",
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
  };
}

/** Of an error, for the log. */
export function describeError(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
