/**
 * What a repair is about to change in the catalog: one transaction, committed after everything that it refers to is durable.
 *
 * Q1. A crash before the transaction leaves the catalog as it was, and chunks in a new pack that nobody names; after it, the
 *     repair has happened. Either way it can be run again.
 * Q2. What is dropped says nothing any more that can be believed: a damaged row, or one that leads to bytes that are lost. A
 *     lost page so stays lost for who reads it, and the same page written again is stored anew.
 */
import { type Catalog, CatalogBatch } from "../catalog/catalog.ts";

/** One thing that a repair did. */
export interface RepairStep {
  /** "chunk 5d41402abc4b2a76b9719d911017c592", "log/0000000003.wal". */
  readonly what: string;
  /** Where its content came from, or why it went: "copied from ...", "dropped: ...". */
  readonly how: string;
}

export class RepairPlan {
  readonly steps: RepairStep[] = [];
  /** What could be done, but only when asked for. */
  readonly refusals: string[] = [];
  readonly batch: CatalogBatch = new CatalogBatch();

  done(what: string, how: string): void {
    this.steps.push({ what, how });
  }

  refuse(message: string): void {
    this.refusals.push(message);
  }

  /** Atomic and durable. */
  commit(catalog: Catalog): void {
    this.batch.commit(catalog.store);
  }
}

/** The key of a row that has an id of 16 bytes: a node, a chunk, a page. */
export function rowKey(table: number, id: Uint8Array): Uint8Array {
  return Uint8Array.of(table, ...id);
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
