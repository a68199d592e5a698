/**
 * A file that at most one living process has, by its name: the base of the store's lock.
 *
 *   absent --take--> held (content with a nonce) --release--> absent
 *                     held by a dead process --take over--> held by another
 *
 * E1. The file appears with all its content: it is written under a name of its own, then linked to `path`, which fails
 *     when the name is taken. Nobody ever sees half a file.
 * E2. Content with nonce N is replaced only by the holder of the exclusive file `path.takeover-N`, after reading N again
 *     under it. Of all that find N abandoned, however late, only one can therefore replace it: who comes after it reads
 *     another nonce. That file is taken by this same protocol, so that one left by a crash during takeover does not block.
 * E3. A file is deleted only by its holder, after reading its own nonce.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { basename, dirname, join } from "node:path";

import { fromSystemError, systemErrorName } from "./system-error.ts";

/** Content of the file: JSON with a nonce that no other content ever had. */
export interface ExclusiveContent {
  readonly nonce: string;
}

export interface ExclusiveFileOptions<Content extends ExclusiveContent> {
  /** Absolute path. */
  readonly path: string;
  /** What to write; called once, with a new nonce. */
  readonly describe: (nonce: string) => Content;
  /** Null when the bytes are not such content. */
  readonly parse: (text: string) => Content | null;
  /** Whether a holder is dead. `content` is null when the file cannot be understood; `modifiedMs` is its time. */
  readonly isAbandoned: (content: Content | null, modifiedMs: number) => boolean;
}

export type TakeResult<Content> =
  | { readonly taken: true; readonly content: Content }
  | { readonly taken: false; readonly holder: Content | null; readonly modifiedMs: number };

/** Each round ends with somebody's success: more than a few only happen when many processes start at once. */
const ROUNDS_MAX = 1000;
/** A takeover of a takeover of ... needs a crash for each level. */
const DEPTH_MAX = 8;

export function takeExclusiveFile<Content extends ExclusiveContent>(
  options: ExclusiveFileOptions<Content>,
): TakeResult<Content> {
  const content = options.describe(randomBytes(12).toString("hex"));
  const own = `${options.path}.${content.nonce}`;
  try {
    writeDurably(own, `${JSON.stringify(content, null, 2)}\n`);
    return take(options, { own, content, depth: 0 });
  } catch (error) {
    throw fromSystemError("Cannot lock the store with", options.path, error);
  } finally {
    fs.rmSync(own, { force: true });
  }
}

/**
 * Deletes what attempts on `path` left behind that died on the way; to be called by the holder. Permits to replace an
 * earlier nonce have no power any more, so that it does not matter who takes them meanwhile (E2).
 */
export function removeLeftovers<Content extends ExclusiveContent>(
  options: ExclusiveFileOptions<Content>,
  held: Content,
): void {
  const directory = dirname(options.path);
  const prefix = `${basename(options.path)}.`;
  for (const name of fs.readdirSync(directory)) {
    if (!name.startsWith(prefix) || name.includes(held.nonce)) continue;
    const path = join(directory, name);
    const seen = read(path, options.parse);
    if (seen !== null && options.isAbandoned(seen.content, seen.modifiedMs))
      fs.rmSync(path, { force: true });
  }
}

/** Deletes the file if it is still the caller's (E3); false when it was lost to another. */
export function releaseExclusiveFile<Content extends ExclusiveContent>(
  path: string,
  content: Content,
  parse: (text: string) => Content | null,
): boolean {
  const seen = read(path, parse);
  if (seen === null || seen.nonce !== content.nonce) return false;
  fs.rmSync(path, { force: true });
  return true;
}

/** Whether the file is still the caller's. */
export function holdsExclusiveFile<Content extends ExclusiveContent>(
  path: string,
  content: Content,
  parse: (text: string) => Content | null,
): boolean {
  return read(path, parse)?.nonce === content.nonce;
}

interface Attempt<Content> {
  /** The file with the caller's content, under its own name. */
  readonly own: string;
  readonly content: Content;
  readonly depth: number;
}

function take<Content extends ExclusiveContent>(
  options: ExclusiveFileOptions<Content>,
  attempt: Attempt<Content>,
): TakeResult<Content> {
  const { path } = options;
  let last: TakeResult<Content> = { taken: false, holder: null, modifiedMs: Date.now() };
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (place(attempt.own, path)) return { taken: true, content: attempt.content };
    const seen = read(path, options.parse);
    if (seen === null) continue;
    last = { taken: false, holder: seen.content, modifiedMs: seen.modifiedMs };
    if (!options.isAbandoned(seen.content, seen.modifiedMs) || attempt.depth === DEPTH_MAX)
      return last;
    if (takeOver(options, attempt, seen.nonce)) return { taken: true, content: attempt.content };
  }
  return last;
}

/** Replaces the content with `nonce` (E2); false when another came first. */
function takeOver<Content extends ExclusiveContent>(
  options: ExclusiveFileOptions<Content>,
  attempt: Attempt<Content>,
  nonce: string,
): boolean {
  const { path, parse } = options;
  const permit = { ...options, path: `${path}.takeover-${nonce}` };
  if (!take(permit, { ...attempt, depth: attempt.depth + 1 }).taken) {
    pause();
    return false;
  }
  try {
    const seen = read(path, parse);
    if (seen === null || seen.nonce !== nonce) return false;
    const replacement = `${attempt.own}.${attempt.depth}`;
    place(attempt.own, replacement);
    fs.renameSync(replacement, path);
    return true;
  } finally {
    releaseExclusiveFile(permit.path, attempt.content, parse);
  }
}

interface Seen<Content> {
  readonly content: Content | null;
  /** Of the content; where that cannot be understood, a digest of the file, which stands for it. */
  readonly nonce: string;
  readonly modifiedMs: number;
}

function read<Content extends ExclusiveContent>(
  path: string,
  parse: (text: string) => Content | null,
): Seen<Content> | null {
  let fd: number;
  try {
    fd = fs.openSync(path, "r");
  } catch (error) {
    if (systemErrorName(error) === "ENOENT") return null;
    throw error;
  }
  try {
    const text = fs.readFileSync(fd, "utf8");
    const status = fs.fstatSync(fd);
    const content = parse(text);
    const nonce = content?.nonce ?? `unreadable-${status.ino}-${status.size}`;
    return { content, nonce, modifiedMs: status.mtimeMs };
  } finally {
    fs.closeSync(fd);
  }
}

/** What systems answer where a file cannot have two names (FAT, some network and FUSE file systems). */
const LINKS_UNSUPPORTED: ReadonlySet<string | null> = new Set([
  "EPERM",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
]);

/** Gives the file `from` the name `to` as well (E1), or a copy of it; false when the name is taken. */
function place(from: string, to: string): boolean {
  try {
    try {
      fs.linkSync(from, to);
    } catch (error) {
      if (!LINKS_UNSUPPORTED.has(systemErrorName(error))) throw error;
      // A reader may now see a part of it: that parses as nothing and, being new, counts as held.
      writeDurably(to, fs.readFileSync(from, "utf8"));
    }
    return true;
  } catch (error) {
    if (systemErrorName(error) === "EEXIST") return false;
    throw error;
  }
}

function writeDurably(path: string, text: string): void {
  const fd = fs.openSync(path, "wx", 0o644);
  try {
    fs.writeFileSync(fd, text);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
}
