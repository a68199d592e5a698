/**
 * How a user names a snapshot:
 *
 *   revision  = database [ "/" branch ] [ "@" at ]
 *   at        = version | time | ago | tag
 *   version   = digits, from 1
 *   time      = RFC 3339 with a zone: 2026-11-20T10:00:00Z, 2026-11-20t10:00:00.5+01:00
 *   ago       = "-" and amounts, largest unit first, each at most once: w d h m s ms, for example -5m, -1h30m, -500ms
 *   database, branch, tag: see names.ts
 *
 * V1. Every text has one reading or none: names hold no "@", and no tag looks like another kind of `at` (B2).
 * V2. `parseRevision(formatRevision(r))` equals `r`. Times are kept in milliseconds, finer fractions are cut off.
 */
import { StoreError } from "../errors.ts";
import { checkName, requireText, TIME_LIKE, VERSION_PATTERN } from "./names.ts";

export type RevisionPoint =
  | { readonly kind: "version"; readonly version: number }
  | { readonly kind: "time"; readonly timestampMs: number }
  /** Before now; from 0. */
  | { readonly kind: "ago"; readonly milliseconds: number }
  | { readonly kind: "tag"; readonly tag: string };

export interface Revision {
  readonly database: string;
  /** Null: the text names none, which means "main" unless a tag says otherwise. */
  readonly branch: string | null;
  /** Null: the head. Anything else is read-only. */
  readonly at: RevisionPoint | null;
}

const REVISION_LENGTH_MAX = 512;

const UNITS = [
  ["w", 604_800_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
] as const;

const DURATION =
  /^-(?=[0-9])(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+)s)?(?:([0-9]+)ms)?$/;
const TIME =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})?$/;

/** Throws StoreError REVISION_INVALID or NAME_INVALID, saying what is wrong where. */
export function parseRevision(text: string): Revision {
  requireText("A revision", text);
  if (text.length > REVISION_LENGTH_MAX) {
    throw invalid(
      `${text.slice(0, 80)}...`,
      `it has ${text.length} characters, at most ${REVISION_LENGTH_MAX} are allowed`,
    );
  }
  const sign = text.indexOf("@");
  const place = sign === -1 ? text : text.slice(0, sign);
  const slash = place.indexOf("/");
  const database = slash === -1 ? place : place.slice(0, slash);
  const branch = slash === -1 ? null : place.slice(slash + 1);
  if (database === "")
    throw invalid(text, 'it names no database; an example is "shop/feature@120"');
  if (branch === "")
    throw invalid(text, `no branch follows the slash; an example is "${database}/main"`);
  checkName("database", database);
  if (branch !== null) checkName("branch", branch);
  return {
    database,
    branch,
    at: sign === -1 ? null : parsePoint(text, place, text.slice(sign + 1)),
  };
}

/** The text that `parseRevision` reads as `revision`, in its one canonical form. */
export function formatRevision(revision: Revision): string {
  const { database, branch, at } = revision;
  const place = branch === null ? database : `${database}/${branch}`;
  return at === null ? place : `${place}@${formatPoint(at)}`;
}

function parsePoint(text: string, place: string, point: string): RevisionPoint {
  if (point === "") {
    throw invalid(text, `nothing follows "@"; examples are "${place}@120" and "${place}@-5m"`);
  }
  if (point.includes("@")) throw invalid(text, 'there is more than one "@"');
  if (point.startsWith("-")) return parseAgo(text, place, point);
  if (VERSION_PATTERN.test(point)) return parseVersion(text, point);
  if (TIME_LIKE.test(point) || point.includes(":")) return parseTime(text, place, point);
  if (DURATION.test(`-${point}`)) {
    throw invalid(
      text,
      `"${point}" looks like a duration, which needs a minus; write "${place}@-${point}"`,
    );
  }
  if (point.startsWith("+")) {
    throw invalid(
      text,
      `"${point}" lies in the future; a time before now is written "${place}@-5m"`,
    );
  }
  checkName("tag", point);
  return { kind: "tag", tag: point };
}

function parseVersion(text: string, point: string): RevisionPoint {
  const version = Number(point);
  if (version === 0) throw invalid(text, "versions start at 1");
  if (!Number.isSafeInteger(version)) throw invalid(text, `version ${point} is too large`);
  return { kind: "version", version };
}

function parseAgo(text: string, place: string, point: string): RevisionPoint {
  const amounts = DURATION.exec(point);
  if (amounts === null) {
    throw invalid(
      text,
      `"${point}" is not a duration: amounts with the units w, d, h, m, s, ms, the largest first; examples are "${place}@-5m" and "${place}@-1h30m"`,
    );
  }
  let milliseconds = 0;
  for (const [index, [, size]] of UNITS.entries())
    milliseconds += Number(amounts[index + 1] ?? 0) * size;
  if (!Number.isSafeInteger(milliseconds))
    throw invalid(text, `the duration "${point}" is too long`);
  return { kind: "ago", milliseconds };
}

function parseTime(text: string, place: string, point: string): RevisionPoint {
  const example = `"${place}@2026-11-20T10:00:00Z"`;
  if (/^[0-9-]+$/.test(point)) {
    throw invalid(
      text,
      `"${point}" is a date without a time; write for example "${place}@${point}T00:00:00Z"`,
    );
  }
  const fields = TIME.exec(point);
  if (fields === null) {
    throw invalid(text, `"${point}" is not a time as in RFC 3339; an example is ${example}`);
  }
  const [, year, month, day, hour, minute, second, fraction, zone] = fields;
  if (zone === undefined) {
    throw invalid(
      text,
      `the time "${point}" has no zone; add one, for example "${place}@${point}Z" or "${place}@${point}+01:00"`,
    );
  }
  // Date.UTC would read the years 0 to 99 as 1900 to 1999.
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  const exists = date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day);
  if (!exists) throw invalid(text, `there is no day ${year}-${month}-${day}`);
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) {
    throw invalid(text, `there is no time of day ${hour}:${minute}:${second}`);
  }
  const milliseconds = Number((fraction ?? "").slice(0, 3).padEnd(3, "0"));
  date.setUTCHours(Number(hour), Number(minute), Number(second), milliseconds);
  const timestampMs = date.getTime() - zoneOffsetMs(text, zone);
  if (timestampMs < YEAR_0_MS || timestampMs >= YEAR_10000_MS) {
    throw invalid(text, `the time "${point}" is outside of the years 0000 to 9999 in UTC`);
  }
  return { kind: "time", timestampMs };
}

const YEAR_0_MS = Date.parse("0000-01-01T00:00:00Z");
const YEAR_10000_MS = Date.parse("+010000-01-01T00:00:00Z");

function zoneOffsetMs(text: string, zone: string): number {
  if (zone === "Z" || zone === "z") return 0;
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(4, 6));
  if (hours > 23 || minutes > 59) throw invalid(text, `there is no zone "${zone}"`);
  const offset = (hours * 60 + minutes) * 60_000;
  return zone.startsWith("-") ? -offset : offset;
}

function formatPoint(point: RevisionPoint): string {
  switch (point.kind) {
    case "version":
      return String(point.version);
    case "time":
      return new Date(point.timestampMs).toISOString();
    case "ago":
      return formatAgo(point.milliseconds);
    case "tag":
      return point.tag;
  }
}

function formatAgo(milliseconds: number): string {
  let rest = milliseconds;
  let text = "-";
  for (const [unit, size] of UNITS) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount > 0) text += `${amount}${unit}`;
  }
  return text === "-" ? "-0s" : text;
}

function invalid(text: string, what: string): StoreError {
  return new StoreError(
    "REVISION_INVALID",
    `Cannot read the revision ${JSON.stringify(text)}: ${what}`,
    {
      details: { revision: text },
    },
  );
}
