/**
 * What a command sees of the outside: its streams and its environment. The real ones in `bough.ts`, strings in tests.
 *
 * T1. A closed pipe (`| head`) is no failure: what is written after it goes nowhere, the command ends as it would have,
 *     and loops that only print look at `closed` to end early.
 * T2. Writers wait for a slow reader: at most `BUFFERED_MAX` characters and one write are in memory.
 */
import type { Readable, Writable } from "node:stream";

export interface OutputStream extends Writable {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface InputStream extends Readable {
  readonly isTTY?: boolean;
}

export interface Terminal {
  readonly stdin: InputStream;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const BUFFERED_MAX = 64 * 1024;
const COLUMNS_DEFAULT = 80;

/** Text on its way to a stream, collected into large writes. */
export class TextOutput {
  readonly #stream: OutputStream;
  #buffered = "";
  #closed = false;
  #failure: Error | null = null;
  readonly #onError = (error: NodeJS.ErrnoException): void => {
    this.#closed = true;
    if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") this.#failure ??= error;
  };

  constructor(stream: OutputStream) {
    this.#stream = stream;
    stream.on("error", this.#onError);
  }

  /** Lets go of the stream, after its last write. */
  release(): void {
    // The event of a failed write comes after its callback.
    setImmediate(() => this.#stream.off("error", this.#onError));
  }

  /** The reader is gone. */
  get closed(): boolean {
    return this.#closed;
  }

  get isTerminal(): boolean {
    return this.#stream.isTTY === true;
  }

  /** Characters in a line of the terminal; Infinity for files and pipes. */
  get columns(): number {
    // A terminal that does not know its width says 0.
    return this.isTerminal ? this.#stream.columns || COLUMNS_DEFAULT : Infinity;
  }

  /** Appends; nothing is lost when the promise is not awaited, but memory is bounded only when it is (T2). */
  async write(text: string): Promise<void> {
    this.#buffered += text;
    if (this.#buffered.length >= BUFFERED_MAX) await this.flush();
  }

  /** The same for whoever cannot wait: true when `flush` is to be awaited before more comes. */
  append(text: string): boolean {
    this.#buffered += text;
    return this.#buffered.length >= BUFFERED_MAX;
  }

  /** Resolves when the stream has taken everything. Throws when it failed otherwise than by a closed pipe. */
  async flush(): Promise<void> {
    const text = this.#buffered;
    this.#buffered = "";
    if (text !== "" && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#stream.write(text, (error) => {
          if (error) this.#onError(error);
          resolve();
        });
      });
    }
    if (this.#failure !== null) throw this.#failure;
  }
}
