/**
 * What garbage collection is told of while one of its cycles runs: every page that a writer refers to, every chunk and
 * node that is written. What becomes reachable in the meantime is known that way, however far the cycle has come.
 *
 * B1. A reference to a page is handed out only after the page is marked: in the same turn, and before the receiver has it.
 * B2. While no cycle runs `marks` is null, and a write costs one comparison.
 */

/** What is alive, for one cycle; it only grows. */
export interface LiveMarks {
  page(chunkId: Uint8Array, slot: number): void;
  /** All pages of a chunk. */
  chunk(chunkId: Uint8Array): void;
  node(id: Uint8Array): void;
}

export class WriteBarrier {
  marks: LiveMarks | null = null;
}
