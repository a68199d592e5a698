/**
 * Repeatable randomness for tests: the generator sfc32 (Chris Doty-Humphrey's Small Fast Counter). A test prints its
 * seed when it fails, and the seed brings the failure back.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;

  constructor(seed: number) {
    this.a = seed | 0;
    this.b = Math.floor(seed / 0x1_0000_0000) | 0;
    this.c = 0x9e3779b9 | 0;
    for (let round = 0; round < 15; round++) this.nextUint32();
  }

  nextUint32(): number {
    const sum = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A float with 32 random bits: 0 <= value < 1. */
  next(): number {
    return this.nextUint32() / 0x1_0000_0000;
  }

  /** An integer: min <= value <= max. */
  integer(min: number, max: number): number {
    if (!(Number.isSafeInteger(min) && Number.isSafeInteger(max) && min <= max)) {
      throw new RangeError(`Random integer from ${min} to ${max}: there is none`);
    }
    const fraction =
      (this.nextUint32() * 0x20_0000 + (this.nextUint32() >>> 11)) / 0x20_0000_0000_0000;
    return min + Math.floor(fraction * (max - min + 1));
  }

  /** True with the given probability (0 to 1). */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError("Random pick: the list is empty");
    return items[this.integer(0, items.length - 1)] as T;
  }

  /** Reorders in place, every order equally likely. */
  shuffle<T>(items: T[]): T[] {
    for (let index = items.length - 1; index > 0; index--) {
      const other = this.integer(0, index);
      [items[index], items[other]] = [items[other] as T, items[index] as T];
    }
    return items;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let index = 0; index < length; index++) bytes[index] = this.nextUint32();
    return bytes;
  }

  /** A generator of its own, so that one part of a test does not shift the randomness of another. */
  fork(): Random {
    return new Random(this.nextUint32() * 0x20_0000 + (this.nextUint32() >>> 11));
  }
}
