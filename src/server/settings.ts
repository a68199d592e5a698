/** Checks the settings of the server, wherever they come from; what is not in the list is refused. */
import { nearest } from "./nearest-name.ts";
import { SERVER_SETTINGS, type ServerSettings, type SettingFacts } from "./setting-list.ts";

export interface SettingSource {
  /** "the server": what the settings are of. */
  readonly title: string;
  /** What the source calls a setting. */
  readonly nameOf: (setting: string) => string;
  /** What else the source may have; to be suggested. */
  readonly others?: readonly string[];
  /** The value of a setting as it stands there, where it had to be read first. */
  readonly written?: (setting: string) => string | undefined;
}

const SHOWN_LENGTH_MAX = 100;

/** Adds what is left out. Throws RangeError, naming each that is wrong. */
export function parseSettings(given: unknown): ServerSettings {
  if (typeof given !== "object" || given === null)
    throw new RangeError("Cannot use these settings of the server: they are no object");
  const checked = checkSettings(given, { title: "the server", nameOf: (name) => name });
  const defaults = Object.fromEntries(
    Object.entries(SERVER_SETTINGS).map(([name, { defaultValue }]) => [name, defaultValue]),
  );
  // The list has the names of the interface, and every value was checked against it.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return { ...defaults, ...checked } as unknown as ServerSettings;
}

/** Adds nothing. Throws RangeError, with a sentence for each that is wrong. */
export function checkSettings(given: object, source: SettingSource): Partial<ServerSettings> {
  const { title, nameOf, others = [], written } = source;
  const checked: Record<string, unknown> = {};
  const faults: string[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const facts = factsOf(name);
    if (facts === null) {
      const known = [...Object.keys(SERVER_SETTINGS).map(nameOf), ...others];
      faults.push(unknownSetting(name, value, known));
    } else if (isPossible(facts, value)) checked[name] = value;
    else {
      const shown = clipped(JSON.stringify(written?.(name)) ?? showValue(value));
      faults.push(`"${nameOf(name)}" is ${shown}, and has to be ${allowed(facts)}`);
    }
  }
  if (faults.length === 0) return checked;
  throw new RangeError(`Cannot use these settings of ${title}: ${faults.join("; ")}`);
}

function factsOf(name: string): SettingFacts | null {
  const all: Readonly<Record<string, SettingFacts>> = SERVER_SETTINGS;
  return Object.hasOwn(all, name) ? (all[name] ?? null) : null;
}

function unknownSetting(name: string, value: unknown, known: readonly string[]): string {
  const meant = nearest(name, known);
  if (meant !== null) return `there is no "${name}"; did you mean "${meant}"?`;
  return isTable(value)
    ? `there is no table "${name}": settings stand at the top of the file, outside of any table`
    : `there is no "${name}"`;
}

function isPossible(facts: SettingFacts, value: unknown): boolean {
  switch (facts.type) {
    case "text":
      return isText(value) || (value === null && facts.defaultValue === null);
    case "choice":
      return facts.choices.some((choice) => choice === value);
    case "flag":
      return typeof value === "boolean";
    case "texts":
      return Array.isArray(value) && value.every(isText);
    case "integer":
      return Number.isSafeInteger(value) && isBetween(Number(value), facts);
  }
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function isBetween(value: number, { min, max }: { min: number; max: number }): boolean {
  return value >= min && value <= max;
}

function allowed(facts: SettingFacts): string {
  switch (facts.type) {
    case "text":
      return "a text that is not empty";
    case "choice":
      return `one of ${facts.choices.join(", ")}`;
    case "flag":
      return "true or false";
    case "texts":
      return "a list of texts of which none is empty";
    case "integer":
      return `a whole number from ${facts.min} to ${facts.max}`;
  }
}

function isTable(value: unknown): boolean {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)
  );
}

function showValue(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  return JSON.stringify(value) ?? `a ${typeof value}`;
}

function clipped(text: string): string {
  return text.length <= SHOWN_LENGTH_MAX ? text : `${text.slice(0, SHOWN_LENGTH_MAX)}...`;
}
