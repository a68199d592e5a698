/**
 * How those who read or write say what they need, for garbage collection: views and sources of pages pass the question on
 * to what they are made of, down to page maps, layers and history segments.
 */
import type { PageMapRoot } from "../page/page-map.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { Layer } from "./page-versions.ts";

/** Takes note of what it is told; asks for nothing more until it is used. */
export interface Tracer {
  root(root: PageMapRoot): void;
  layer(layer: Layer): void;
  /** Pages that are in chunks and in no page map yet. */
  places(places: PagePlaces): void;
  /** The file is read, and the chunks that it refers to. */
  historySegment(segment: number): void;
}

/** Whoever needs pages that names of the store may not lead to: a reader, a transaction, an import. */
export interface PageHolder {
  trace(tracer: Tracer): void;
  /** The state of its store that it reads from now; null when it reads from none. */
  heldContext?(): object | null;
}
