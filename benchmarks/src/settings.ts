/** What a run does: `npm run bench -- --only point-read,insert --rounds 7 --quick`. */
import { parseArgs } from "node:util";
import type { ResultRow } from "./measure.ts";

/** Node 22 and later, and with it better-sqlite3 13. */
export function isNewNode(): boolean {
  return Number(process.versions.node.split(".")[0]) >= 22;
}

export class Settings {
  readonly isQuick: boolean;
  readonly rounds: number;
  readonly #only: readonly string[] | null;
  readonly #show: (row: ResultRow) => void;

  constructor(options: {
    isQuick: boolean;
    rounds: number;
    only: readonly string[] | null;
    show: (row: ResultRow) => void;
  }) {
    this.isQuick = options.isQuick;
    this.rounds = options.rounds;
    this.#only = options.only;
    this.#show = options.show;
  }

  static parse(argv: readonly string[], show: (row: ResultRow) => void): Settings {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        only: { type: "string" },
        rounds: { type: "string" },
        quick: { type: "boolean", default: false },
      },
    });
    const rounds = Number(values.rounds ?? (values.quick ? 3 : 7));
    if (!Number.isInteger(rounds) || rounds < 1)
      throw new RangeError(`Option --rounds: "${values.rounds}" is not a count`);
    return new Settings({
      isQuick: values.quick,
      rounds,
      only: values.only === undefined ? null : values.only.split(","),
      show,
    });
  }

  /**
   * The ratio to reach: against better-sqlite3 13, which returns rows much faster than 12, reads and writes are to be no
   * slower, scans excepted.
   */
  wantedRatio(ratio: number): number {
    return isNewNode() && ratio < 10 ? Math.min(ratio, 1) : ratio;
  }

  /** Whether an item is wanted; `--only insert` takes every item whose name begins with "insert". */
  includes(item: string): boolean {
    return this.#only === null || this.#only.some((name) => item.startsWith(name));
  }

  /** Tells people about a result as soon as it is there. */
  show(row: ResultRow): void {
    this.#show(row);
  }
}
