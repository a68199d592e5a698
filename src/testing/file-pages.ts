/** The pages of a database file in memory, all of them or those that a transaction accessed. */
import type { AccessedPages } from "../btree/accessed-pages.ts";

export class FilePages implements AccessedPages {
  readonly bytes: Uint8Array;
  readonly pageSize: number;
  readonly pageCount: number;
  /** null: all. */
  accessed: ReadonlySet<number> | null = null;

  constructor(bytes: Uint8Array, pageSize: number) {
    this.bytes = bytes;
    this.pageSize = pageSize;
    this.pageCount = bytes.length / pageSize;
  }

  page(number: number): Uint8Array | null {
    if (!Number.isSafeInteger(number) || number < 1)
      throw new RangeError(`Cannot read page ${number}: no such number`);
    if (number > this.pageCount || this.accessed?.has(number) === false) return null;
    return this.bytes.subarray((number - 1) * this.pageSize, number * this.pageSize);
  }

  get numbers(): number[] {
    return Array.from({ length: this.pageCount }, (_, index) => index + 1);
  }
}
