/** Checks the settings of the server, wherever they come from; what is not in the list is refused. */
import { z } from "zod";
import { SERVER_SETTINGS, type ServerSettings, type SettingFacts } from "./setting-list.ts";

let schema: z.ZodType | null = null;

/** Adds what is left out. Throws RangeError, naming each that is wrong. */
export function parseSettings(given: unknown): ServerSettings {
  schema ??= z.strictObject(
    Object.fromEntries(
      Object.entries(SERVER_SETTINGS).map(([name, facts]) => [name, settingSchema(facts)]),
    ),
  );
  const parsed = schema.safeParse(given);
  // The schema is made of the list, which has the names of the interface.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  if (parsed.success) return parsed.data as ServerSettings;
  const faults = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `"${path.join(".")}": ${message}`,
  );
  throw new RangeError(`Cannot use these settings of the server: ${faults.join("; ")}`);
}

function settingSchema(facts: SettingFacts): z.ZodType {
  const { description } = facts;
  switch (facts.type) {
    case "text":
      return facts.defaultValue === null
        ? z.string().min(1).nullable().default(null).describe(description)
        : z.string().min(1).default(facts.defaultValue).describe(description);
    case "flag":
      return z.boolean().default(facts.defaultValue).describe(description);
    case "texts":
      return z.array(z.string().min(1)).default([]).describe(description);
    case "integer":
      return z
        .int()
        .min(facts.min)
        .max(facts.max)
        .default(facts.defaultValue)
        .describe(description);
  }
}
