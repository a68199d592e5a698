/** Where the rows of a statement go, and how many there were so far. */
import type { RowSink } from "../../sqlite/async-executor.ts";

export interface CountingSink extends RowSink {
  readonly rowCount: number;
}
