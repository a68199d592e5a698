/**
 * The difference between two versions of one page, as bytes. The log, history segments and the version index keep
 * these instead of whole pages, so encoding is on the commit path and must cost about a microsecond.
 *
 *   delta = run*
 *   run   = skip: varint     unchanged bytes between the end of the run before (the page's start for the first) and this
 *           length: varint   bytes that follow, 1 or more
 *           bytes            the page's new content there
 *
 *   varint: base 128, least significant group first, top bit set on all bytes but the last; at most 3 bytes here.
 *
 * Invariants
 * D1. applyDelta(before, encodeDelta(before, after)) = after. An empty delta means equal pages.
 * D2. Runs ascend, do not overlap and end within the page; anything else is a DeltaError, and nothing is read or
 *     written outside of the page. A delta has no checksum of its own: what contains it has one.
 * D3. A gap of 8 or more equal bytes is never part of a run, if it covers two aligned words; a shorter one is cheaper
 *     to copy than to describe.
 */

/** The largest page of SQLite; bounds what a varint in a delta may say. */
const PAGE_SIZE_MAX = 65_536;

/** Below this many bytes a loop copies faster than `set` with a view made for it. */
const SHORT_COPY = 48;

/**
 * After a run the rest of the page is often equal (always, nearly, of page 1), and the runtime compares 4 KiB in 0.08 us
 * where a loop takes 0.6. The check is worth it for this many words, and for the first runs.
 */
const TAIL_WORDS_MIN = 256;
const TAIL_CHECKS_MAX = 4;
/** Of two arrays of bytes, with ranges in both. */
const compareBytes: typeof Buffer.prototype.compare = Buffer.prototype.compare;

/** Bytes that are not a delta for this page. */
export class DeltaError extends Error {
  override readonly name = "DeltaError";
}

// Pages at addresses that are no multiple of 4 are compared from copies here.
const alignedBefore: Uint8Array = new Uint8Array(PAGE_SIZE_MAX);
const alignedAfter: Uint8Array = new Uint8Array(PAGE_SIZE_MAX);

/**
 * Writes the delta that makes `after` of `before` to `target` from `targetOffset`, and returns its size in bytes; -1 as
 * soon as it would exceed `limit`, with bytes of `target` in that range overwritten. Never writes past the limit.
 * Both pages have one size, a multiple of 4.
 */
export function encodeDelta(
  before: Uint8Array,
  after: Uint8Array,
  target: Uint8Array,
  targetOffset: number,
  limit: number,
): number {
  const size = after.length;
  if (before.length !== size || (size & 3) !== 0 || size > PAGE_SIZE_MAX) {
    throw new RangeError(`Cannot compare pages: sizes are ${before.length} and ${size}`);
  }
  let left = before;
  let right = after;
  if ((left.byteOffset & 3) !== 0) {
    alignedBefore.set(left);
    left = alignedBefore;
  }
  if ((right.byteOffset & 3) !== 0) {
    alignedAfter.set(right);
    right = alignedAfter;
  }
  const wordCount = size >> 2;
  const leftWords = new Int32Array(left.buffer, left.byteOffset, wordCount);
  const rightWords = new Int32Array(right.buffer, right.byteOffset, wordCount);
  const end = Math.min(targetOffset + limit, target.length);
  let out = targetOffset;
  let written = 0; // the end of the last run, in the page
  let tailChecks = 0;
  let word = nextDifference(leftWords, rightWords, 0, wordCount);
  while (word < wordCount) {
    let lastWord = word;
    let scan = word + 1;
    // Stops at two equal words in a row.
    while (scan < wordCount && scan - lastWord <= 2) {
      if (leftWords[scan] !== rightWords[scan]) lastWord = scan;
      scan++;
    }
    let start = word << 2;
    while (before[start] === after[start]) start++;
    let stop = (lastWord << 2) + 4;
    while (before[stop - 1] === after[stop - 1]) stop--;
    out = putRun(after, start, stop, start - written, target, out, end);
    if (out < 0) return -1;
    written = stop;
    if (tailChecks < TAIL_CHECKS_MAX && wordCount - scan >= TAIL_WORDS_MIN) {
      tailChecks++;
      if (compareBytes.call(left, right, scan << 2, size, scan << 2, size) === 0) break;
    }
    word = nextDifference(leftWords, rightWords, scan, wordCount);
  }
  return out - targetOffset;
}

/** The first index from `from` where the words differ, `count` when none does. */
function nextDifference(left: Int32Array, right: Int32Array, from: number, count: number): number {
  let index = from;
  const unrolledEnd = count - 7;
  while (index < unrolledEnd) {
    const different =
      (left[index]! ^ right[index]!) |
      (left[index + 1]! ^ right[index + 1]!) |
      (left[index + 2]! ^ right[index + 2]!) |
      (left[index + 3]! ^ right[index + 3]!) |
      (left[index + 4]! ^ right[index + 4]!) |
      (left[index + 5]! ^ right[index + 5]!) |
      (left[index + 6]! ^ right[index + 6]!) |
      (left[index + 7]! ^ right[index + 7]!);
    if (different !== 0) break;
    index += 8;
  }
  while (index < count && left[index] === right[index]) index++;
  return index;
}

/** Writes one run and returns the offset after it, or -1 when it does not fit before `end`. */
function putRun(
  page: Uint8Array,
  start: number,
  stop: number,
  skip: number,
  target: Uint8Array,
  offset: number,
  end: number,
): number {
  const length = stop - start;
  let out = offset;
  if (out + varintSize(skip) + varintSize(length) + length > end) return -1;
  out = putVarint(target, out, skip);
  out = putVarint(target, out, length);
  if (length < SHORT_COPY) {
    for (let index = start; index < stop; index++) target[out++] = page[index]!;
  } else {
    target.set(page.subarray(start, stop), out);
    out += length;
  }
  return out;
}

function varintSize(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : 3;
}

function putVarint(target: Uint8Array, offset: number, value: number): number {
  let out = offset;
  let rest = value;
  while (rest >= 0x80) {
    target[out++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[out++] = rest;
  return out;
}

/**
 * Applies the delta in bytes `start` to `end` of `delta` to `page` in place. Throws DeltaError for bytes that break D2;
 * the page may then hold some of the runs.
 */
export function applyDelta(page: Uint8Array, delta: Uint8Array, start: number, end: number): void {
  if (start < 0 || start > end || end > delta.length) {
    throw new DeltaError(`Cannot apply delta: range ${start} to ${end} of ${delta.length} bytes`);
  }
  let position = start;
  let written = 0;
  while (position < end) {
    // Two varints, read in place: this runs once per run of every version that a snapshot replays.
    let skip = 0;
    let length = 0;
    for (let field = 0; field < 2; field++) {
      let value = 0;
      let shift = 0;
      let byte = 0x80;
      while (byte >= 0x80) {
        if (position >= end || shift > 14) {
          throw new DeltaError(`Cannot apply delta: bad length at byte ${position - start}`);
        }
        byte = delta[position++]!;
        value |= (byte & 0x7f) << shift;
        shift += 7;
      }
      if (field === 0) skip = value;
      else length = value;
    }
    const from = written + skip;
    const to = from + length;
    if (length === 0 || to > page.length || position + length > end) {
      throw new DeltaError(
        `Cannot apply delta: run of ${length} bytes at ${from} does not fit page of ${page.length} ` +
          `and delta of ${end - start} bytes`,
      );
    }
    if (length < SHORT_COPY) {
      for (let index = from; index < to; index++) page[index] = delta[position++]!;
    } else {
      page.set(delta.subarray(position, position + length), from);
      position += length;
    }
    written = to;
  }
}
