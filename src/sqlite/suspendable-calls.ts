/** The calls into an instance of SQLite that can be suspended, for the awaited connection that has the instance; made once for it. */
import type { SqliteRuntime } from "./runtime.ts";
import { stepLoop } from "./step-loop.ts";
import { promising } from "./suspension.ts";

export type Suspendable = (...parameters: number[]) => number | Promise<number>;

export class SuspendableCalls {
  readonly open: Suspendable;
  readonly prepare: Suspendable;
  readonly steps: Suspendable;
  readonly run: Suspendable;
  /** For sqlite3_open_v2, sqlite3_prepare_v3 and the fused run: 16 bytes. */
  readonly out: number;
  /** What `steps` calls for each row; not 0: enough. It must not throw. */
  onRow: () => number = () => 1;

  constructor({ exports, heap, run }: SqliteRuntime) {
    this.out = heap.allocate(16);
    this.open = promising(exports.sqlite3_open_v2);
    this.prepare = promising(exports.sqlite3_prepare_v3);
    this.steps = promising(stepLoop(exports, () => this.onRow()));
    this.run = promising(run);
  }
}
