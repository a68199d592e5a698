/** How a store is opened, with the defaults. */
import { type RemoteOptions, type ResolvedRemote, resolveRemote } from "./remote-options.ts";
import { type OptionNames, showOption } from "../branch/option-names.ts";
import { type Backend, BACKENDS } from "../catalog/backends.ts";
import { StoreError } from "../errors.ts";
import type { CheckProblem } from "../integrity/report.ts";
import { CHUNK_SLOTS_MAX } from "../page/chunk-format.ts";
import type { Storage } from "../storage/storage.ts";
import type { Durability } from "../transaction/commit-pipeline.ts";
import { type Compression, requireCompression } from "./compression-option.ts";

export interface StoreOptions {
  /** Make the store when there is none; true by default. Otherwise STORE_NOT_FOUND. */
  readonly create?: boolean;
  /** Where names and indexes are kept, chosen when the store is made: lmdb by default. */
  readonly backend?: Backend;
  /** 32 bytes, 64 hex characters or base64: encrypts a new store, opens an encrypted one. Default: BOUGH_KEY. */
  readonly key?: Uint8Array | string;
  /** A file with the key. */
  readonly keyFile?: string;
  /** Where BOUGH_KEY is looked for; process.env by default. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** What a commit survives when it returns, as in PRAGMA synchronous: full by default. */
  readonly durability?: Durability | "remote";
  /** Where the store uploads to, now and, as far as the URL goes, whenever it is opened; null ends that. */
  readonly remote?: string | RemoteOptions | null;
  /** Of a store that is in object storage: what is kept of it on disk, in bytes; 1 GiB by default. */
  readonly diskCacheBytesMax?: number;
  /**
   * How a store in object storage is opened: to follow its writer, read-only (the default), or as its new writer, which ends
   * the earlier one.
   */
  readonly mode?: "follow" | "write";
  /**
   * Where a store in object storage has what it needs on this machine. By default a directory of the user's, named by the
   * URL: among caches to follow, among data to write.
   */
  readonly directory?: string;
  /** How often a follower looks for changes, in milliseconds: 1000 by default. */
  readonly pollIntervalMs?: number;
  /**
   * Of new chunks and history: "lz4", "zstd", "zstd:1" to "zstd:22" (needs Node 22.15 or newer to write) or "none". A new
   * store records it. Default: what the store has recorded, else lz4. See `Store.setCompression`.
   */
  readonly compression?: Compression;
  /**
   * How long `outcome` knows whether a transaction has committed, in milliseconds: 24 hours by default. Of those of before it says
   * that it does not know.
   */
  readonly outcomeWindowMs?: number;
  /** Of how many transactions it knows that at most, the newest: 100,000 by default. */
  readonly outcomesMax?: number;
  /**
   * At least so many partitions, 1 to 256: those that are missing are added, for good. Databases of different partitions share
   * nothing, and can be in threads of their own. See docs/partitions.md.
   */
  readonly partitions?: number;
  /** Decoded chunks kept in memory, in bytes: 64 MiB by default. */
  readonly cacheBytesMax?: number;
  /**
   * Memory of the SQLite instances of awaited connections (`store.open`, `store.transact`), in bytes: 256 MiB by default. Beyond it
   * idle connections are parked; see docs/async-connection.md.
   */
  readonly connectionBytesMax?: number;
  /** A checkpoint begins when commits hold this much memory, in bytes: 32 MiB by default. */
  readonly checkpointBytes?: number;
  /** A checkpoint also begins when the oldest commit in the log is this old, in milliseconds: 1 hour by default. */
  readonly checkpointIntervalMs?: number;
  /** A transaction with more changed pages than this, in bytes, moves them to chunks before it commits: 16 MiB. */
  readonly transactionBytesMax?: number;
  /** Size of a log segment in bytes, a multiple of 4096: 16 MiB by default. */
  readonly logSegmentBytes?: number;
  /** Pages in a chunk, 1 to 64: 64 by default. */
  readonly chunkPages?: number;
  /** Whether garbage is collected by itself, in the background: "auto" by default. */
  readonly gc?: "auto" | "off";
  /** With gc "auto": how much is written before a cycle begins, as a share of what is stored; 0.5 by default. */
  readonly gcRatio?: number;
  /** How fast the store reads what it has on disk again, for ever, to find damage; not at all by default. */
  readonly scrubBytesPerSecond?: number;
  /** Gets the damage that this finds, each once; by default it goes to `process.emitWarning`. */
  readonly onDamage?: (problem: CheckProblem) => void;
  /** The clock, in milliseconds since 1970. */
  readonly now?: () => number;
  /** Instead of a directory: for tests on a simulated disk. */
  readonly storage?: Storage;
}

export interface ResolvedOptions {
  readonly create: boolean;
  readonly backend: Backend;
  readonly durability: Durability;
  /** Commits return when object storage has them. */
  readonly isRemoteDurable: boolean;
  readonly diskCacheBytesMax: number;
  readonly pollIntervalMs: number;
  /** Undefined: what the store has recorded. */
  readonly remote: ResolvedRemote | null | undefined;
  /** Null: what the store has recorded. */
  readonly compression: Compression | null;
  readonly cacheBytesMax: number;
  readonly connectionBytesMax: number;
  readonly checkpointBytes: number;
  readonly checkpointIntervalMs: number;
  readonly transactionBytesMax: number;
  readonly logSegmentBytes: number;
  readonly chunkPages: number;
  readonly outcomeWindowMs: number;
  readonly outcomesMax: number;
  /** Null: garbage is collected only on request. */
  readonly gcRatio: number | null;
  /** Null: no scrub in the background. */
  readonly scrubBytesPerSecond: number | null;
  readonly onDamage: (problem: CheckProblem) => void;
  readonly now: () => number;
}

const MIB = 1024 * 1024;
const HOUR_MS = 3_600_000;
export const DURABILITIES: readonly string[] = ["full", "normal", "off", "remote"];

export const STORE_OPTIONS: OptionNames<StoreOptions> = {
  create: true,
  backend: true,
  key: true,
  keyFile: true,
  environment: true,
  durability: true,
  remote: true,
  diskCacheBytesMax: true,
  mode: true,
  directory: true,
  pollIntervalMs: true,
  outcomeWindowMs: true,
  outcomesMax: true,
  partitions: true,
  compression: true,
  cacheBytesMax: true,
  connectionBytesMax: true,
  checkpointBytes: true,
  checkpointIntervalMs: true,
  transactionBytesMax: true,
  logSegmentBytes: true,
  chunkPages: true,
  gc: true,
  gcRatio: true,
  scrubBytesPerSecond: true,
  onDamage: true,
  now: true,
  storage: true,
};

/** Throws TypeError or RangeError for values that make no sense. */
export function resolveOptions(options: StoreOptions): ResolvedOptions {
  requireKinds(options);
  const { backend = "lmdb", durability = "full", compression } = options;
  requireOneOf("backend", backend, BACKENDS);
  requireOneOf("durability", durability, DURABILITIES);
  if (compression !== undefined) requireCompression('Option "compression"', compression);
  const { gc = "auto", gcRatio = 0.5 } = options;
  requireOneOf("gc", gc, ["auto", "off"]);
  if (typeof gcRatio !== "number" || !(gcRatio > 0 && gcRatio <= 10))
    throw new RangeError(`Option "gcRatio": ${showOption(gcRatio)} is not above 0 and at most 10`);
  const chunkPages = options.chunkPages ?? CHUNK_SLOTS_MAX;
  if (!Number.isInteger(chunkPages) || chunkPages < 1 || chunkPages > CHUNK_SLOTS_MAX)
    throw new RangeError(
      `Option "chunkPages": ${showOption(chunkPages)} is not from 1 to ${CHUNK_SLOTS_MAX}`,
    );
  return {
    create: options.create ?? true,
    backend,
    durability: durability === "remote" ? "full" : durability,
    isRemoteDurable: durability === "remote",
    pollIntervalMs: bytes("pollIntervalMs", options.pollIntervalMs, 1000),
    diskCacheBytesMax: bytes("diskCacheBytesMax", options.diskCacheBytesMax, 1024 * MIB),
    remote: options.remote == null ? options.remote : resolveRemote(options.remote),
    compression: compression ?? null,
    cacheBytesMax: bytes("cacheBytesMax", options.cacheBytesMax, 64 * MIB),
    connectionBytesMax: bytes("connectionBytesMax", options.connectionBytesMax, 256 * MIB),
    checkpointBytes: bytes("checkpointBytes", options.checkpointBytes, 32 * MIB),
    checkpointIntervalMs: checkInterval(options.checkpointIntervalMs),
    transactionBytesMax: bytes("transactionBytesMax", options.transactionBytesMax, 16 * MIB),
    logSegmentBytes: bytes("logSegmentBytes", options.logSegmentBytes, 16 * MIB),
    chunkPages,
    outcomeWindowMs: wholeNumber("outcomeWindowMs", options.outcomeWindowMs, 24 * HOUR_MS),
    outcomesMax: wholeNumber("outcomesMax", options.outcomesMax, 100_000),
    gcRatio: gc === "off" ? null : gcRatio,
    scrubBytesPerSecond: scrubRate(options.scrubBytesPerSecond),
    onDamage: options.onDamage ?? warnOfDamage,
    now: options.now === undefined ? Date.now : wholeMilliseconds(options.now),
  };
}

/** What is stored are whole milliseconds from 1970 on, whatever a clock gives. */
function wholeMilliseconds(now: () => number): () => number {
  return () => {
    const timestampMs = Math.floor(now());
    if (Number.isSafeInteger(timestampMs) && timestampMs >= 0) return timestampMs;
    throw new RangeError(`Option "now": ${timestampMs} is not a time in milliseconds since 1970`);
  };
}

function scrubRate(value: number | undefined): number | null {
  if (value === undefined) return null;
  if (typeof value === "number" && value > 0) return value;
  throw new RangeError(
    `Option "scrubBytesPerSecond": ${showOption(value)} is not a number above 0`,
  );
}

/** Damage that nobody hears of is damage until the other copy is gone too. */
export function warnOfDamage({ code, message, revisions }: CheckProblem): void {
  const touched = revisions.length === 0 ? "no revision" : revisions.join(", ");
  process.emitWarning(`${message} (touches: ${touched}); run "bough check --repair"`, {
    type: "BoughDamage",
    code,
  });
}

function checkInterval(value: number = HOUR_MS): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new RangeError(
    `Option "checkpointIntervalMs": ${showOption(value)} is not a number of milliseconds`,
  );
}

function wholeNumber(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new RangeError(`Option "${name}": ${showOption(value)} is not a whole number from 0 on`);
}

function bytes(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`Option "${name}": ${showOption(value)} is not a number of bytes`);
  return value;
}

export function requireOneOf(name: string, value: string, allowed: readonly string[]): void {
  if (allowed.includes(value)) return;
  throw new TypeError(`Option "${name}": ${showOption(value)} is not one of ${allowed.join(", ")}`);
}

/** Of those that nothing else looks at before the store is made. */
const KINDS = [
  ["create", "true or false", (value: unknown) => typeof value === "boolean"],
  [
    "key",
    "a text or bytes",
    (value: unknown) => typeof value === "string" || value instanceof Uint8Array,
  ],
  ["keyFile", "the path of a file", isText],
  ["directory", "the path of a directory", isText],
  ["environment", "an object", isObject],
  ["remote", "a URL or an object", (value: unknown) => isText(value) || isObject(value)],
  ["onDamage", "a function", isFunction],
  ["now", "a function", isFunction],
] as const;

/** A key is not shown. */
function requireKinds(options: StoreOptions): void {
  for (const [name, kind, isRight] of KINDS) {
    const value: unknown = options[name];
    if (value === undefined || (name === "remote" && value === null) || isRight(value)) continue;
    const isSecret = name === "key" && typeof value !== "object";
    const shown = isSecret ? `a ${typeof value}` : showOption(value);
    throw new TypeError(`Option "${name}": ${shown} is not ${kind}`);
  }
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function isFunction(value: unknown): boolean {
  return typeof value === "function";
}

export function storeNotFound(description: string): StoreError {
  return new StoreError(
    "STORE_NOT_FOUND",
    `Cannot open store "${description}": there is none; create one with "bough import" or "bough database create"`,
  );
}
