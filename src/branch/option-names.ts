/**
 * Options of the library's calls. One that is misspelled would be passed over, and the call do something else than was meant: make a
 * store without encryption, fork another version.
 */
import { OptionError } from "../errors.ts";
import { nearestNames } from "./nearest-names.ts";

/** Every name of the options T, so that the compiler misses none. Nobody is told of the internal ones. */
export type OptionNames<T> = Readonly<Record<keyof T, true | "internal">>;

/** `call` is what it is known by: "createBranch". Throws OptionError for a name that there is not. */
export function requireOptions<T>(call: string, options: T, names: OptionNames<T>): void {
  if (typeof options !== "object" || options === null)
    throw new TypeError(`Cannot use ${showOption(options)} as options of ${call}: it is no object`);
  for (const name in options)
    if (!Object.hasOwn(names, name)) throw unknownOption(call, name, names);
}

function unknownOption(
  call: string,
  name: string,
  names: Readonly<Record<string, true | "internal">>,
): OptionError {
  const known = Object.keys(names).filter((each) => names[each] === true);
  const [meant] = nearestNames(name.replaceAll(/[-_]/g, ""), known, 1);
  const rest = meant === undefined ? `it has ${known.join(", ")}` : `did you mean "${meant}"?`;
  return new OptionError(`Cannot use option "${name}" of ${call}: there is none; ${rest}`);
}

/** Throws TypeError. Undefined is as good as left out. */
export function requireBoolean(name: string, value: unknown): void {
  if (value === undefined || typeof value === "boolean") return;
  throw new TypeError(`Option "${name}": ${showOption(value)} is not true or false`);
}

/** A value as it would be written: "4" is not 4. */
export function showOption(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length <= 100 ? value : `${value.slice(0, 100)}...`);
    case "bigint":
      return `${value}n`;
    case "function":
    case "symbol":
      return `a ${typeof value}`;
    case "object":
      if (value === null) return "null";
      return Array.isArray(value) ? "a list" : "an object";
    case "boolean":
    case "number":
    case "undefined":
      return String(value);
  }
}
