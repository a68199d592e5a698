import type { RangeOptions, WriteBatch } from "./key-value.ts";

/** The longest key that every backend takes, in bytes: lmdb's limit with pages of 4096 bytes. */
export const KEY_SIZE_MAX = 1978;

/** The longest value that every backend takes, in bytes: 1 GiB. */
export const VALUE_SIZE_MAX = 0x4000_0000;

/** Negative, zero or positive, in the order of K2: unsigned bytes, a prefix before what it begins. */
export function compareKeys(left: Uint8Array, right: Uint8Array): number {
  const length = Math.min(left.byteLength, right.byteLength);
  for (let index = 0; index < length; index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return left.byteLength - right.byteLength;
}

/** Refuses a batch that some backend could not store, before any of it is applied. */
export function checkBatch(batch: WriteBatch): void {
  for (const { key, value } of batch.operations) {
    if (key.byteLength === 0 || key.byteLength > KEY_SIZE_MAX) {
      throw new RangeError(`Key of ${key.byteLength} bytes: 1 to ${KEY_SIZE_MAX} are allowed`);
    }
    if (value !== null && value.byteLength > VALUE_SIZE_MAX) {
      throw new RangeError(
        `Value of ${value.byteLength} bytes: at most ${VALUE_SIZE_MAX} are allowed`,
      );
    }
  }
}

/** Refuses bounds longer than a key, and limits that are not counts. */
export function checkRange(options: RangeOptions): void {
  const size = Math.max(options.start.byteLength, options.end.byteLength);
  if (size > KEY_SIZE_MAX) {
    throw new RangeError(`Range bound of ${size} bytes: at most ${KEY_SIZE_MAX} are allowed`);
  }
  const limit = options.limit ?? 0;
  if (!Number.isSafeInteger(limit) || limit < 0) {
    throw new RangeError(`Range limit ${limit}: a count from 0 up is needed`);
  }
}

type Operations = WriteBatch["operations"];

/** In key order, one per key: the last of the batch. */
export function sortedOperations(operations: Readonly<Operations>): Operations {
  const sorted = operations.toSorted((left, right) => compareKeys(left.key, right.key));
  return sorted.filter((operation, index) => {
    const next = sorted[index + 1];
    return next === undefined || compareKeys(operation.key, next.key) !== 0;
  });
}
