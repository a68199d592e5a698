/**
 * All settings of the server, with what people are told of them. Options of `bough serve` are made from this list and the schema that
 * checks settings too (settings.ts), so that neither can have one that the other has not. Nothing is loaded for it: the command
 * line shows it without starting a server.
 */
export interface ServerSettings {
  readonly host: string;
  readonly port: number;
  readonly noAuth: boolean;
  readonly defaultDatabase: string;
  readonly domain: readonly string[];
  readonly allowOrigin: readonly string[];
  readonly streamIdleMs: number;
  readonly transactionMs: number;
  readonly statementMs: number;
  readonly busyTimeoutMs: number;
  readonly streamsMax: number;
  readonly requestBytesMax: number;
  readonly responseBytesMax: number;
  readonly uploadBytesMax: number;
  readonly stopMs: number;
  readonly logLevel: LogLevel;
  readonly slowQueryMs: number;
  readonly metricsDatabasesMax: number;
}

/** What is logged: all that is as bad, or worse. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "off";

export type SettingFacts = { readonly description: string } & (
  | { readonly type: "text"; readonly defaultValue: string }
  | {
      readonly type: "choice";
      readonly defaultValue: string;
      readonly choices: readonly [string, ...string[]];
    }
  | { readonly type: "flag"; readonly defaultValue: false }
  | { readonly type: "texts"; readonly defaultValue: readonly [] }
  | {
      readonly type: "integer";
      readonly defaultValue: number;
      readonly min: number;
      readonly max: number;
    }
);

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** A longer timer would fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;
/** The longest string of this JavaScript engine is not much longer. */
const BYTES_MAX = 256 * MIB;

export const SERVER_SETTINGS: Readonly<Record<keyof ServerSettings, SettingFacts>> = {
  host: text("127.0.0.1", "address to listen on"),
  port: integer(8080, "port to listen on; 0: any that is free", { min: 0, max: 65_535 }),
  noAuth: flag("listen where other machines reach the server, though anybody may do anything"),
  defaultDatabase: text("default", "database of URLs that name none; made at its first use"),
  domain: texts("name of this server; below it shop.NAME and dev--shop.NAME are databases"),
  allowOrigin: texts("origin of web pages that may ask, beside those on this machine; *: any"),
  streamIdleMs: milliseconds(60_000, "how long a stream is kept that is not used"),
  transactionMs: milliseconds(30_000, "how long a transaction may be open"),
  statementMs: milliseconds(60_000, "how long a statement may run"),
  busyTimeoutMs: milliseconds(10_000, "how long a statement waits for others that write", 0),
  streamsMax: integer(10_000, "how many streams may be open", { min: 1, max: 1_000_000 }),
  requestBytesMax: bytes(32 * MIB, "bytes of a request"),
  responseBytesMax: bytes(64 * MIB, "bytes of an answer; a cursor has no such limit"),
  uploadBytesMax: integer(64 * GIB, "bytes of a SQLite file that is uploaded", {
    min: 1024,
    max: Number.MAX_SAFE_INTEGER,
  }),
  stopMs: milliseconds(10_000, "how long requests have to end when the server is stopped"),
  logLevel: {
    type: "choice",
    description: "what is logged on the error output, a line of JSON each; debug: every request",
    defaultValue: "info",
    choices: ["debug", "info", "warn", "error", "off"],
  },
  slowQueryMs: milliseconds(
    1000,
    "how long a statement runs that is logged as slow; 0: none is",
    0,
  ),
  metricsDatabasesMax: integer(100, "how many databases have metrics of their own", {
    min: 0,
    max: 10_000,
  }),
};

function text(defaultValue: string, description: string): SettingFacts {
  return { type: "text", description, defaultValue };
}

function flag(description: string): SettingFacts {
  return { type: "flag", description, defaultValue: false };
}

function texts(description: string): SettingFacts {
  return { type: "texts", description, defaultValue: [] };
}

function integer(
  defaultValue: number,
  description: string,
  limits: { readonly min: number; readonly max: number },
): SettingFacts {
  return { type: "integer", description, defaultValue, ...limits };
}

function milliseconds(defaultValue: number, description: string, min = 1): SettingFacts {
  return integer(defaultValue, description, { min, max: TIMER_MS_MAX });
}

function bytes(defaultValue: number, description: string): SettingFacts {
  return integer(defaultValue, description, { min: 1024, max: BYTES_MAX });
}
