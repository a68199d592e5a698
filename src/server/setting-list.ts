/**
 * All settings of the server, with what people are told of them. Options of `bough serve` are made from this list and what checks
 * settings goes by it (settings.ts), so that neither can have one that the other has not. Nothing is loaded for it: the command
 * line shows it without starting a server.
 */
export interface ServerSettings {
  readonly host: string;
  readonly port: number;
  readonly noAuth: boolean;
  readonly authKeyFile: readonly string[];
  readonly authSecretFile: readonly string[];
  readonly authJwksUrl: readonly string[];
  readonly authAudience: string | null;
  readonly authIssuer: string | null;
  readonly authWithoutClaims: boolean;
  readonly revocations: string | null;
  readonly tlsCert: string | null;
  readonly tlsKey: string | null;
  readonly defaultDatabase: string;
  readonly domain: readonly string[];
  readonly allowOrigin: readonly string[];
  readonly streamIdleMs: number;
  readonly transactionMs: number;
  readonly statementMs: number;
  readonly busyTimeoutMs: number;
  readonly connectionsMax: number;
  readonly streamsMax: number;
  readonly streamsPerClientMax: number;
  readonly requestBytesMax: number;
  readonly responseBytesMax: number;
  readonly uploadBytesMax: number;
  readonly rowsMax: number;
  readonly unsentBytesMax: number;
  readonly databaseBytesMax: number;
  readonly connectionBytesMax: number;
  readonly threads: number;
  readonly sendMs: number;
  readonly stopMs: number;
  readonly logLevel: LogLevel;
  readonly slowQueryMs: number;
  readonly metricsDatabasesMax: number;
  readonly otelEndpoint: string | null;
  readonly otelServiceName: string | null;
  readonly otelSamplePercent: number;
}

/** What is logged: all that is as bad, or worse. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "off";

export type SettingFacts = {
  readonly description: string;
  /** What the environment calls it beside our own name, by a standard of others. */
  readonly standardVariable?: string;
  /** It names a file: in a file of settings from that file's directory on, elsewhere from the working directory. */
  readonly isPath?: true;
} & (
  | { readonly type: "text"; readonly defaultValue: string | null }
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
/** Of the store that is served. */
export const CONNECTION_BYTES_MAX: number = 96 * MIB;
const COUNTS = { min: 1, max: 1_000_000 };

export const SERVER_SETTINGS: Readonly<Record<keyof ServerSettings, SettingFacts>> = {
  host: text("127.0.0.1", "address to listen on"),
  port: integer(8080, "port to listen on; 0: any that is free", { min: 0, max: 65_535 }),
  noAuth: flag("ask nobody for a token, also where other machines reach the server"),
  authKeyFile: path(texts("public keys that verify tokens: PEM, JWK or JWK set; see bough token")),
  authSecretFile: path(
    texts("file whose content is the secret that tokens are signed with (HS256)"),
  ),
  authJwksUrl: texts("address of a JWK set with public keys"),
  authAudience: optionalText('what tokens must have in "aud"'),
  authIssuer: optionalText('what tokens must have in "iss"'),
  authWithoutClaims: flag("let tokens that name no database read and write all of them"),
  revocations: path(
    optionalText("the list of revoked tokens, if not the one in the store's directory"),
  ),
  tlsCert: path(
    optionalText("certificate chain, PEM: serve https: and wss:; read again when it changes"),
  ),
  tlsKey: path(optionalText("private key of the certificate, PEM")),
  defaultDatabase: text("default", "database of URLs that name none; made at its first use"),
  domain: texts("name of this server; below it shop.NAME and dev--shop.NAME are databases"),
  allowOrigin: texts("origin of web pages that may ask, beside those on this machine; *: any"),
  streamIdleMs: milliseconds(60_000, "how long a stream is kept that is not used"),
  transactionMs: milliseconds(30_000, "how long a transaction may be open"),
  statementMs: milliseconds(60_000, "how long a statement may run"),
  busyTimeoutMs: milliseconds(10_000, "how long a statement waits for others that write", 0),
  connectionsMax: integer(10_000, "how many connections clients may have", COUNTS),
  streamsMax: integer(10_000, "how many streams may be open", COUNTS),
  streamsPerClientMax: integer(
    2000,
    "how many of them may be of one token, or of one address without tokens",
    COUNTS,
  ),
  requestBytesMax: bytes(32 * MIB, "bytes of a request"),
  responseBytesMax: bytes(64 * MIB, "bytes of an answer; a cursor has no such limit"),
  uploadBytesMax: integer(
    64 * GIB,
    "bytes of SQLite files that are being uploaded and imported, one or all together",
    {
      min: 1024,
      max: Number.MAX_SAFE_INTEGER,
    },
  ),
  rowsMax: integer(1_000_000, "rows of an answer; a cursor has no such limit", {
    min: 1,
    max: 2 ** 31,
  }),
  unsentBytesMax: integer(
    256 * MIB,
    "bytes of answers that clients have not read yet, all together; the one that waits longest goes",
    { min: MIB, max: 2 ** 40 },
  ),
  databaseBytesMax: integer(0, "bytes that a branch may grow to; 0: any size", {
    min: 0,
    max: 2 ** 48,
  }),
  connectionBytesMax: integer(
    CONNECTION_BYTES_MAX,
    "bytes of SQLite's memory, beyond which connections that are idle give theirs back",
    { min: 0, max: 2 ** 40 },
  ),
  threads: integer(
    0,
    "how many threads the databases are spread over, for good also in the store; 0, 1: all are in the thread that answers",
    { min: 0, max: 64 },
  ),
  sendMs: milliseconds(60_000, "how long a client may leave an answer unread"),
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
  otelEndpoint: {
    ...optionalText(
      "OpenTelemetry collector that gets spans, OTLP over HTTP: http://127.0.0.1:4318; also $OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    standardVariable: "OTEL_EXPORTER_OTLP_ENDPOINT",
  },
  otelServiceName: {
    ...optionalText('what spans call this server, if not "bough"; also $OTEL_SERVICE_NAME'),
    standardVariable: "OTEL_SERVICE_NAME",
  },
  otelSamplePercent: integer(
    100,
    "how many of a hundred requests have spans, of those whose traceparent does not say",
    { min: 0, max: 100 },
  ),
};

function text(defaultValue: string, description: string): SettingFacts {
  return { type: "text", description, defaultValue };
}

function path(facts: SettingFacts): SettingFacts {
  return { ...facts, isPath: true };
}

function optionalText(description: string): SettingFacts {
  return { type: "text", description, defaultValue: null };
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
