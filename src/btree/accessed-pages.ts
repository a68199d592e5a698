/** Pages of the end state of a transaction: those that it wrote, else those of its snapshot. */
export interface AccessedPages {
  readonly pageSize: number;
  /** A view of `pageSize` bytes, which nobody changes meanwhile. null: the transaction neither read nor wrote it. */
  page(number: number): Uint8Array | null;
}
