/**
 * The pages that a transaction has read. Most transactions read few pages and are never compared with others, so page numbers
 * are only put down at first; what repeats goes when they are many, or when somebody asks.
 */
const PENDING_MAX = 512;

export class ReadSet {
  readonly #pages: Set<number> = new Set();
  #pending: number[] = [];

  add(page: number): void {
    if (this.#pending.push(page) >= PENDING_MAX) this.#settle();
  }

  has(page: number): boolean {
    if (this.#pending.length > 0) this.#settle();
    return this.#pages.has(page);
  }

  #settle(): void {
    for (const page of this.#pending) this.#pages.add(page);
    this.#pending = [];
  }
}
