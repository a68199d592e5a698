/**
 * Commits of one timeline as catalog rows: a row holds a run of them, so that a checkpoint of 100,000 small commits puts
 * a thousand rows into the catalog, in some milliseconds, and a commit takes some 6 bytes there. The row's key names the
 * newest commit of the run; a run of one is a row of 16 bytes.
 *
 * | size   | field                                                                  |
 * |--------|------------------------------------------------------------------------|
 * | 8      | newest commit: timestamp, ms since 1970, big-endian                     |
 * | 4      | newest commit: page count, big-endian                                   |
 * | 4      | newest commit: changed pages, big-endian                                |
 * | varint | for each older commit, from new to old: how much lower its version is, 1 or more |
 * | varint | how much lower its timestamp is                                         |
 * | varint | its page count less that of the newer one, zigzag                       |
 * | varint | its changed pages                                                       |
 *
 * Varints: base 128, least significant group first, top bit set on all bytes but the last.
 *
 * K1. Versions descend strictly within a run, timestamps never ascend. Runs of one timeline do not overlap.
 */
import { StoreError } from "../errors.ts";
import { ByteReader, ByteWriter } from "./record-codec.ts";

export interface CommitRow {
  readonly version: number;
  readonly timestampMs: number;
  readonly pageCount: number;
  readonly changedPages: number;
}

/** Commits in a row. */
export const COMMIT_RUN_MAX = 128;

const NEWEST_SIZE = 16;
/** Four varints, each of a safe integer. */
const OLDER_SIZE_MAX = 4 * 8;

const scratch = new Uint8Array(NEWEST_SIZE + COMMIT_RUN_MAX * OLDER_SIZE_MAX);

/** The row of commits[start, end), which ascend by version; its key has the version of the last. */
export function encodeCommitRun(
  commits: readonly CommitRow[],
  start: number,
  end: number,
): Uint8Array {
  if (!(end > start && end - start <= COMMIT_RUN_MAX))
    throw new RangeError(`Run of commits: ${end - start} is not from 1 to ${COMMIT_RUN_MAX}`);
  let newer = commits[end - 1]!;
  const { timestampMs, pageCount, changedPages } = newer;
  const head = new ByteWriter(NEWEST_SIZE).u64(timestampMs).u32(pageCount).u32(changedPages).bytes;
  if (end - start === 1) return head;
  scratch.set(head);
  let offset = NEWEST_SIZE;
  for (let index = end - 2; index >= start; index--) {
    const commit = commits[index]!;
    if (commit.version >= newer.version || commit.timestampMs > newer.timestampMs)
      throw new RangeError(`Run of commits: ${commit.version} does not precede ${newer.version}`);
    const growth = commit.pageCount - newer.pageCount;
    offset = putVarint(offset, newer.version - commit.version);
    offset = putVarint(offset, newer.timestampMs - commit.timestampMs);
    offset = putVarint(offset, growth < 0 ? -2 * growth - 1 : 2 * growth);
    offset = putVarint(offset, commit.changedPages);
    newer = commit;
  }
  return scratch.slice(0, offset);
}

function putVarint(offset: number, value: number): number {
  let out = offset;
  let rest = value;
  while (rest >= 0x80) {
    scratch[out++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  scratch[out++] = rest;
  return out;
}

/** Newest first. `version` is that of the row's key. Throws CORRUPT_CATALOG. */
export function decodeCommitRun(version: number, value: Uint8Array): CommitRow[] {
  return new CommitRunReader(value, version).read();
}

class CommitRunReader {
  readonly #value: Uint8Array;
  readonly #version: number;
  #offset = NEWEST_SIZE;

  constructor(value: Uint8Array, version: number) {
    this.#value = value;
    this.#version = version;
  }

  read(): CommitRow[] {
    if (this.#value.length < NEWEST_SIZE) throw this.#malformed();
    const reader = new ByteReader(this.#value);
    let newer: CommitRow = {
      version: this.#version,
      timestampMs: reader.u64(),
      pageCount: reader.u32(),
      changedPages: reader.u32(),
    };
    const commits = [newer];
    while (this.#offset < this.#value.length) {
      const version = newer.version - this.#varint();
      const timestampMs = newer.timestampMs - this.#varint();
      const growth = this.#varint();
      const pageCount = newer.pageCount + (growth % 2 === 1 ? -(growth + 1) / 2 : growth / 2);
      const changedPages = this.#varint();
      if (version < 1 || version >= newer.version || timestampMs < 0 || pageCount < 0)
        throw this.#malformed();
      newer = { version, timestampMs, pageCount, changedPages };
      commits.push(newer);
    }
    return commits;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.#value[this.#offset];
      if (byte === undefined) throw this.#malformed();
      this.#offset++;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw this.#malformed();
  }

  #malformed(): StoreError {
    return new StoreError(
      "CORRUPT_CATALOG",
      `Cannot read the catalog: the commits up to version ${this.#version} do not decode`,
      { details: { version: this.#version } },
    );
  }
}
