/**
 * What a connection was opened on, while it is parked: opened again it is on the same branch or commit, whatever its names mean by
 * then, and garbage collection and expiry leave a fixed commit alone meanwhile.
 */
import type { RevisionTarget } from "./revision-target.ts";
import type { PageHolder, Tracer } from "./tracer.ts";

export class ParkedRevision implements PageHolder {
  readonly target: RevisionTarget;

  constructor(target: RevisionTarget) {
    this.target = target;
  }

  trace(tracer: Tracer): void {
    if (this.target.isFixed) this.target.head().view.trace(tracer);
  }

  heldContext(): object | null {
    return this.target.isFixed ? this.target.head().view.context : null;
  }
}
