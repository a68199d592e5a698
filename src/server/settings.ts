/** Checks the settings of the server, wherever they come from; what is not in the list is refused. */
import { z } from "zod";
import { nearest } from "./nearest-name.ts";
import { SERVER_SETTINGS, type ServerSettings, type SettingFacts } from "./setting-list.ts";

export interface SettingSource {
  /** "the server": what the settings are of. */
  readonly title: string;
  /** What the source calls a setting. */
  readonly nameOf: (setting: string) => string;
  /** What else the source may have; to be suggested. */
  readonly others?: readonly string[];
}

let schemas: Readonly<Record<string, z.ZodType>> | null = null;

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

/** Adds nothing. Throws RangeError, naming each that is wrong. */
export function checkSettings(
  given: object,
  { title, nameOf, others = [] }: SettingSource,
): Partial<ServerSettings> {
  schemas ??= Object.fromEntries(
    Object.entries(SERVER_SETTINGS).map(([name, facts]) => [name, settingSchema(facts)]),
  );
  const checked: Record<string, unknown> = {};
  const faults: string[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const schema = Object.hasOwn(schemas, name) ? schemas[name] : undefined;
    if (schema === undefined) {
      const meant = nearest(name, [...Object.keys(schemas).map(nameOf), ...others]);
      faults.push(`there is no "${name}"${meant === null ? "" : `; did you mean "${meant}"?`}`);
      continue;
    }
    const parsed = schema.safeParse(value);
    if (parsed.success) checked[name] = parsed.data;
    else faults.push(`"${nameOf(name)}": ${parsed.error.issues[0]?.message ?? "not valid"}`);
  }
  if (faults.length === 0) return checked;
  throw new RangeError(`Cannot use these settings of ${title}: ${faults.join("; ")}`);
}

function settingSchema(facts: SettingFacts): z.ZodType {
  switch (facts.type) {
    case "text":
      return facts.defaultValue === null
        ? z.string().min(1).nullable()
        : z.string().min(facts.defaultValue === "" ? 0 : 1);
    case "choice":
      return z.enum(facts.choices);
    case "flag":
      return z.boolean();
    case "texts":
      return z.array(z.string().min(1));
    case "integer":
      return z.int().min(facts.min).max(facts.max);
  }
}
