/**
 * Patterns for names of databases and branches, as scopes of tokens have them.
 *
 *   pattern   = part { "/" part }            a database: one part
 *   part      = "**"                         any parts, at least one; for branches only
 *             | { character | "*" }          "*" stands for any characters of this part, or none
 *   character = letter | digit | "." | "_" | "-"
 *
 *   pattern      matches                          does not match
 *   main         main                             main2, Main, release/main
 *   preview/*    preview/pr-7                     preview, preview/a/b, main
 *   preview/**   preview/pr-7, preview/a/b        preview
 *   *            main, dev                        preview/pr-7
 *   **           every branch
 *
 * G1. A pattern matches the whole name, letter by letter. "main" is a name like any other.
 * G2. "*" never reaches over a "/". So a pattern without "**" matches names with exactly as many parts as it has.
 * G3. Text that is no pattern by this grammar is refused, never read as a pattern that matches nothing or something else.
 * G4. A name that could not be one (an empty part, too long) is matched by nothing.
 * G5. Matching takes at most the product of both lengths in steps, whatever the pattern.
 */
import { NAME_LENGTH_MAX } from "../../branch/names.ts";
import { invariant } from "../../errors.ts";

export type PatternKind = "database" | "branch";

export interface NamePattern {
  readonly text: string;
  /** Matches every name there is: "*" for databases, "**" for branches. */
  readonly coversAll: boolean;
  /** It is one name, not a pattern: "*" in it stands for itself. */
  readonly isExact: boolean;
  matches(name: string): boolean;
}

const ANY_PART = "*";
const ANY_PARTS = "**";

/** What is wrong with it as a pattern (G3), to be put after a colon; null when nothing is. */
export function faultOfPattern(kind: PatternKind, text: string): string | null {
  if (text === "") return "it is empty";
  if (text.length > NAME_LENGTH_MAX)
    return `it has ${text.length} characters, at most ${NAME_LENGTH_MAX} are allowed`;
  const wrong = /[^A-Za-z0-9._*/-]/u.exec(text);
  if (wrong !== null)
    return `the character ${JSON.stringify(wrong[0])} is not allowed, only letters, digits, ".", "_", "-", "*" and "/"`;
  const parts = text.split("/");
  if (kind === "database" && parts.length > 1) return 'the name of a database has no "/"';
  for (const part of parts) {
    if (part === "") return 'there is nothing on one side of a "/"';
    if (!part.includes(ANY_PARTS)) continue;
    if (kind === "database") return 'for every database write "*"';
    if (part !== ANY_PARTS) return '"**" stands alone between slashes';
  }
  return null;
}

/** Of text without a fault. */
export function compilePattern(kind: PatternKind, text: string): NamePattern {
  invariant(faultOfPattern(kind, text) === null, `A pattern: ${JSON.stringify(text)} is none`);
  return {
    text,
    coversAll: text === (kind === "database" ? ANY_PART : ANY_PARTS),
    isExact: false,
    matches: matcherOf(text),
  };
}

/** Asked for every request: the common patterns take no walk. */
function matcherOf(text: string): (name: string) => boolean {
  if (!text.includes("*")) return (name) => name === text;
  if (text === ANY_PARTS) return isPossibleName;
  const [before = "", after = "", ...others] = text.split("*");
  if (others.length === 0) return (name) => isPossibleName(name) && isAround(name, before, after);
  // "**" is one part of any kind, then any number of them: then the walk needs only "any number".
  const parts = text
    .split("/")
    .flatMap((part) => (part === ANY_PARTS ? [ANY_PART, ANY_PARTS] : [part]));
  return (name) => isPossibleName(name) && matchParts(parts, name.split("/"));
}

/** Matches this name and no other, also when it has a "*" in it: names never have. */
export function exactPattern(name: string): NamePattern {
  return { text: name, coversAll: false, isExact: true, matches: (other) => other === name };
}

/** Whether the name is those two with something of one part in between. */
function isAround(name: string, before: string, after: string): boolean {
  const end = name.length - after.length;
  if (end < before.length || !name.startsWith(before) || !name.endsWith(after)) return false;
  const slash = name.indexOf("/", before.length);
  return slash === -1 || slash >= end;
}

function isPossibleName(name: string): boolean {
  if (name === "" || name.length > NAME_LENGTH_MAX) return false;
  return !name.startsWith("/") && !name.endsWith("/") && !name.includes("//");
}

function matchParts(wanted: readonly string[], name: readonly string[]): boolean {
  return matchSequence({
    wantedCount: wanted.length,
    givenCount: name.length,
    isRun: (index) => wanted[index] === ANY_PARTS,
    fits: (index, at) => matchPart(wanted[index] ?? "", name[at] ?? ""),
  });
}

function matchPart(pattern: string, part: string): boolean {
  if (pattern === ANY_PART) return true;
  if (!pattern.includes("*")) return pattern === part;
  return matchSequence({
    wantedCount: pattern.length,
    givenCount: part.length,
    isRun: (index) => pattern[index] === "*",
    fits: (index, at) => pattern[index] === part[at],
  });
}

interface Sequences {
  readonly wantedCount: number;
  readonly givenCount: number;
  /** Whether this element of the pattern stands for any number of elements, none too. */
  readonly isRun: (wanted: number) => boolean;
  /** Whether it stands for this one element. */
  readonly fits: (wanted: number, given: number) => boolean;
}

/** Only the last run that was met is ever made longer: a match that needs an earlier one longer can do with the last (G5). */
function matchSequence({ wantedCount, givenCount, isRun, fits }: Sequences): boolean {
  let wanted = 0;
  let given = 0;
  let afterRun = -1;
  let runEnd = 0;
  while (given < givenCount) {
    if (wanted < wantedCount && isRun(wanted)) {
      afterRun = ++wanted;
      runEnd = given;
    } else if (wanted < wantedCount && fits(wanted, given)) {
      wanted++;
      given++;
    } else if (afterRun !== -1) {
      wanted = afterRun;
      given = ++runEnd;
    } else return false;
  }
  while (wanted < wantedCount && isRun(wanted)) wanted++;
  return wanted === wantedCount;
}
