/** A bar on the error output of a terminal, for work that takes long. Files and pipes get none. */
import type { OutputStream } from "./terminal.ts";

const REDRAW_MS = 100;
const BAR_WIDTH = 24;

export interface ProgressState {
  readonly done: number;
  readonly total: number;
  /** After the percentage: "1.2 GiB of 3 GiB". */
  readonly text: string;
}

export class ProgressBar {
  readonly #stream: OutputStream;
  readonly #title: string;
  readonly #now: () => number;
  #drawnAt = -Infinity;
  #isShown = false;

  constructor(title: string, stream: OutputStream, now: () => number = () => performance.now()) {
    this.#title = title;
    this.#stream = stream;
    this.#now = now;
  }

  update({ done, total, text }: ProgressState): void {
    if (this.#stream.isTTY !== true) return;
    const now = this.#now();
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const share = total > 0 ? Math.min(1, done / total) : 0;
    const filled = Math.round(share * BAR_WIDTH);
    const bar = "█".repeat(filled) + "░".repeat(BAR_WIDTH - filled);
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    const line = `${this.#title} ${bar} ${percent}  ${text}`;
    this.#stream.write(`\r\u001b[K${line.slice(0, (this.#stream.columns || 80) - 1)}`);
    this.#isShown = true;
  }

  /** Takes the bar away: what comes next stands in its place. */
  end(): void {
    if (this.#isShown) this.#stream.write("\r\u001b[K");
    this.#isShown = false;
  }
}
