/**
 * Where settings of the server come from. What comes first in this list wins:
 *
 *   source        streamIdleMs is written    domain, of which there may be several
 *   option        --stream-idle-ms 5000      --domain a.example b.example
 *   environment   BOUGH_STREAM_IDLE_MS=5000  BOUGH_DOMAIN=a.example,b.example
 *   bough.toml    stream-idle-ms = 5000      domain = ["a.example", "b.example"]
 *
 * V1. A source with a setting that there is not, or a value that cannot be, is refused as a whole, and named with the words of that source.
 * V2. The environment belongs to others too: a name there that begins with BOUGH_ and is like none of ours is passed over, and told of.
 * V3. Names of other standards that the list has count after our own, and none does where OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER says no.
 * V4. What a file of settings calls by a relative path is meant from that file's directory on: the file can be used from anywhere.
 */
import { dirname, resolve } from "node:path";
import { nearest } from "./nearest-name.ts";
import { SERVER_SETTINGS, type ServerSettings, type SettingFacts } from "./setting-list.ts";
import { kebabName, VARIABLE_PREFIX, variableName } from "./setting-name.ts";
import { checkSettings } from "./settings.ts";

/** Of the command line and of the library; those with this prefix are of bough's own tests. */
const OTHER_VARIABLES: ReadonlySet<string> = new Set([
  "BOUGH_CONFIG",
  "BOUGH_HISTORY",
  "BOUGH_KEY",
  "BOUGH_SIGNING_KEY_FILE",
  "BOUGH_STORE",
  "BOUGH_TOKEN",
  "BOUGH_URL",
]);
const TEST_PREFIX = "BOUGH_TEST_";

export type GivenSettings = Partial<ServerSettings>;

export interface EnvironmentSettings {
  readonly settings: GivenSettings;
  /** V2. */
  readonly passedOver: readonly string[];
}

export interface FileSettings {
  readonly settings: GivenSettings;
  /** The directory of the store, as written; null: the file does not say. */
  readonly store: string | null;
}

/** Throws RangeError (V1). */
export function settingsOfEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): EnvironmentSettings {
  const settings = new Map(
    Object.entries(SERVER_SETTINGS).map(([name, facts]) => [variableName(name), { name, facts }]),
  );
  const given = standardSettings(environment);
  const passedOver: string[] = [];
  for (const [variable, text] of Object.entries(environment)) {
    if (!variable.startsWith(VARIABLE_PREFIX) || text === undefined || text === "") continue;
    if (OTHER_VARIABLES.has(variable) || variable.startsWith(TEST_PREFIX)) continue;
    const setting = settings.get(variable);
    if (setting !== undefined) given[setting.name] = valueOf(setting.facts, text);
    else if (nearest(variable, settings.keys()) === null) passedOver.push(variable);
    else given[variable] = text;
  }
  const source = {
    title: "the environment",
    nameOf: variableName,
    written: (name: string) => environment[variableName(name)],
  };
  try {
    return { settings: checkSettings(given, source), passedOver };
  } catch (error) {
    throw isServiceLink(environment["BOUGH_PORT"]) && error instanceof RangeError
      ? new RangeError(`${error.message}; ${SERVICE_LINK_ADVICE}`)
      : error;
  }
}

const SERVICE_LINK_ADVICE =
  'Docker and Kubernetes set BOUGH_PORT so for a service that is called "bough": turn that off (enableServiceLinks: false), or set it to a number';

function isServiceLink(port: string | undefined): boolean {
  return port !== undefined && /^[a-z]+:\/\//.test(port);
}

/** V3. */
function standardSettings(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  const isOff =
    environment["OTEL_SDK_DISABLED"]?.toLowerCase() === "true" ||
    environment["OTEL_TRACES_EXPORTER"] === "none";
  if (isOff) return given;
  for (const [name, facts] of Object.entries(SERVER_SETTINGS)) {
    const text = environment[facts.standardVariable ?? ""];
    if (text !== undefined && text !== "") given[name] = valueOf(facts, text);
  }
  return given;
}

/** Of the text of a bough.toml, with paths as they are from the working directory (V4). Throws RangeError (V1). */
export async function settingsOfFile(text: string, path: string): Promise<FileSettings> {
  const { parse, TomlError } = await import("smol-toml");
  let table: Record<string, unknown>;
  try {
    table = parse(text);
  } catch (error) {
    const [reason = ""] = (error instanceof Error ? error.message : String(error)).split("\n", 1);
    const where = error instanceof TomlError ? ` in line ${error.line}` : "";
    throw new RangeError(`Cannot read "${path}": ${reason}${where}`);
  }
  const { store, ...rest } = table;
  if (store !== undefined && (typeof store !== "string" || store === ""))
    throw new RangeError(
      `Cannot use these settings of "${path}": "store" is ${JSON.stringify(store)}, and has to be the path or URL of a store`,
    );
  const known = new Map(
    Object.entries(SERVER_SETTINGS).map(([name, facts]) => [kebabName(name), { name, facts }]),
  );
  const given = Object.fromEntries(
    Object.entries(rest).map(([name, value]) => {
      const setting = known.get(name);
      if (setting === undefined) return [name, value];
      return [setting.name, fromDirectory(dirname(path), setting.facts, value)];
    }),
  );
  // A name that is written as in the library is not a setting of the file.
  for (const name of Object.keys(rest))
    if (Object.hasOwn(SERVER_SETTINGS, name) && !known.has(name))
      throw new RangeError(
        `Cannot use these settings of "${path}": there is no "${name}"; did you mean "${kebabName(name)}"?`,
      );
  const source = { title: `"${path}"`, nameOf: kebabName, others: ["store"] };
  return { settings: checkSettings(given, source), store: store ?? null };
}

/** V4. Of settings as they were read, not checked yet. */
function fromDirectory(
  directory: string,
  { isPath }: Pick<SettingFacts, "isPath">,
  value: unknown,
): unknown {
  if (isPath !== true) return value;
  if (Array.isArray(value))
    return value.map((each: unknown) => fromDirectory(directory, { isPath }, each));
  return typeof value === "string" && value !== "" ? resolve(directory, value) : value;
}

/** What cannot be read stays a text, which the check refuses. */
function valueOf({ type }: SettingFacts, text: string): unknown {
  switch (type) {
    case "text":
    case "choice":
      return text;
    case "texts":
      return text.split(",").map((part) => part.trim());
    case "integer":
      return /^[0-9]{1,15}$/.test(text) ? Number(text) : text;
    case "flag":
      if (text === "1" || text === "true") return true;
      return text === "0" || text === "false" ? false : text;
  }
}
