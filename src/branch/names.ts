/**
 * Names of databases, branches and tags.
 *
 * B1. A part is a letter, digit or "_", then letters, digits, ".", "_" or "-", without "..". Databases and tags are one
 *     part, branches one or more with "/" between. No name is longer than 128 characters.
 * B2. A tag cannot be taken for a version, a duration or a time, so that "@" has one reading only.
 */
import { StoreError } from "../errors.ts";

export const NAME_LENGTH_MAX = 128;

export type NameKind = "database" | "branch" | "tag";

const EXAMPLES: Readonly<Record<NameKind, string>> = {
  database: "shop",
  branch: "feature/auth",
  tag: "before-import",
};

export const VERSION_PATTERN: RegExp = /^[0-9]+$/;
/** With or without the sign that makes it a duration: "5m" as a tag would be a trap. */
const DURATION_LIKE = /^-?(?:[0-9]+(?:ms|[wdhms]))+$/i;
export const TIME_LIKE: RegExp = /^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:$|[Tt ])/;

/** Throws StoreError NAME_INVALID, saying what is wrong where, unless `name` is one (B1, B2). */
export function checkName(kind: NameKind, name: string): void {
  requireText(`The name of a ${kind}`, name);
  const fault = faultOfName(kind, name);
  if (fault === null) return;
  const shown = name.length > 2 * NAME_LENGTH_MAX ? `${name.slice(0, NAME_LENGTH_MAX)}...` : name;
  throw new StoreError(
    "NAME_INVALID",
    `Cannot use ${JSON.stringify(shown)} as the name of a ${kind}: ${fault}; an example is "${EXAMPLES[kind]}"`,
    { details: { kind, name } },
  );
}

/** For what JavaScript's callers may get wrong: the type says string already. */
export function requireText(what: string, value: unknown): void {
  if (typeof value === "string") return;
  const given = value === null ? "null" : typeof value;
  throw new TypeError(`${what} must be a string, this is ${given}`);
}

function faultOfName(kind: NameKind, name: string): string | null {
  if (name.length > NAME_LENGTH_MAX) {
    return `it has ${name.length} characters, at most ${NAME_LENGTH_MAX} are allowed`;
  }
  const parts = kind === "branch" ? name.split("/") : [name];
  let offset = 0;
  for (const part of parts) {
    const fault = faultOfPart(part, offset);
    if (fault !== null) return fault;
    offset += part.length + 1;
  }
  if (kind !== "tag") return null;
  if (VERSION_PATTERN.test(name)) return "a number is read as a version";
  if (DURATION_LIKE.test(name)) return "it looks like a duration";
  return TIME_LIKE.test(name) ? "it looks like a time" : null;
}

function faultOfPart(part: string, offset: number): string | null {
  if (part === "")
    return offset === 0
      ? "it is empty or begins with a slash"
      : `the part at position ${offset + 1} is empty`;
  const dots = part.indexOf("..");
  if (dots !== -1) return `".." at position ${offset + dots + 1} is not allowed`;
  const wrong = /[^A-Za-z0-9._-]/u.exec(part);
  if (wrong !== null) {
    return `the character ${JSON.stringify(wrong[0])} at position ${offset + wrong.index + 1} is not allowed, only letters, digits, ".", "_" and "-"`;
  }
  if (/^[.-]/.test(part)) {
    return `${JSON.stringify(part.charAt(0))} at position ${offset + 1} is not allowed there, a letter, digit or "_" is`;
  }
  return null;
}
