/**
 * All settings of the server: their schema, defaults and limits. `bough serve` makes its options from it, and what comes later
 * (environment, file) is checked by it too; a setting that is not here is refused.
 */
import { z } from "zod";

export interface ServerSettings {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Listen on an address that other machines reach, though anybody may do anything. */
  readonly noAuth: boolean;
  /** What a URL without a database means. */
  readonly defaultDatabase: string;
  /** Names below which the first label is a database or branch: "shop.example.com". */
  readonly domain: readonly string[];
  /** Origins of web pages that may ask a server without authentication, beside those on this machine. */
  readonly allowOrigin: readonly string[];
  readonly streamIdleMs: number;
  readonly transactionMs: number;
  readonly statementMs: number;
  readonly busyTimeoutMs: number;
  readonly streamsMax: number;
  readonly requestBytesMax: number;
  readonly responseBytesMax: number;
  readonly stopMs: number;
}

const MIB = 1024 * 1024;
/** A longer timer would fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

const milliseconds = z.int().min(1).max(TIMER_MS_MAX);
const bytes = z.int().min(1024);

const SCHEMA = z.strictObject({
  host: z.string().min(1).default("127.0.0.1").describe("address to listen on"),
  port: z.int().min(0).max(65_535).default(8080).describe("port to listen on; 0: any free one"),
  noAuth: z
    .boolean()
    .default(false)
    .describe("listen on an address that others reach, though anybody may then do anything"),
  defaultDatabase: z
    .string()
    .min(1)
    .default("default")
    .describe("database of URLs that name none; made at its first use"),
  domain: z
    .array(z.string().min(1))
    .default([])
    .describe("name of this server, below which labels are databases: shop.NAME, dev--shop.NAME"),
  allowOrigin: z
    .array(z.string().min(1))
    .default([])
    .describe("origin of web pages that may use the server, beside those of this machine"),
  streamIdleMs: milliseconds.default(60_000).describe("how long an unused stream is kept"),
  transactionMs: milliseconds.default(30_000).describe("how long a transaction may be open"),
  statementMs: milliseconds.default(60_000).describe("how long a statement may run"),
  busyTimeoutMs: z
    .int()
    .min(0)
    .max(TIMER_MS_MAX)
    .default(10_000)
    .describe("how long a statement waits for others that write"),
  streamsMax: z.int().min(1).default(10_000).describe("open streams"),
  requestBytesMax: bytes.default(32 * MIB).describe("bytes of a request"),
  responseBytesMax: bytes.default(64 * MIB).describe("bytes of an answer that is not a cursor"),
  stopMs: milliseconds.default(10_000).describe("how long requests have to end when it is stopped"),
});

/** Checks settings and adds defaults. Throws RangeError, naming each that is wrong. */
export function parseSettings(given: unknown): ServerSettings {
  const parsed = SCHEMA.safeParse(given);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `"${path.join(".")}": ${message}`,
  );
  throw new RangeError(`Cannot use these settings of the server: ${faults.join("; ")}`);
}

export interface SettingFacts {
  readonly name: keyof ServerSettings;
  readonly description: string;
  readonly type: "text" | "number" | "boolean" | "list";
  readonly defaultValue: unknown;
}

/** For help texts and command line options. */
export function listSettings(): SettingFacts[] {
  const { properties = {} } = z.toJSONSchema(SCHEMA, { io: "input" });
  return Object.entries(properties).map(([name, property]) => {
    const {
      type,
      description = "",
      default: defaultValue,
    } = typeof property === "boolean" ? {} : property;
    return { name: settingName(name), description, type: kindOf(type), defaultValue };
  });
}

function settingName(name: string): keyof ServerSettings {
  // The interface and the schema have the same names, or parseSettings would not compile.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return name as keyof ServerSettings;
}

function kindOf(type: unknown): SettingFacts["type"] {
  if (type === "integer" || type === "number") return "number";
  if (type === "array") return "list";
  return type === "boolean" ? "boolean" : "text";
}
