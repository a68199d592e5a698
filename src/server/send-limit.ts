/**
 * What bounds the memory of answers that clients do not read.
 *
 * L1. An answer, or a piece of one, that a client has left unread for `sendMs` ends its connection.
 * L2. All that is unread has `unsentBytesMax` bytes at most: beyond it the connection whose answer waits for longest ends, but not
 *     the one that was answered last.
 * L3. All answers that are being made have so many bytes at most, too: requests that come together are all run before the first of them is
 *     answered. Beyond it they are refused (ResponseBudget in hrana/result-text.ts).
 */
import type { ServerResponse } from "node:http";

export interface SendLimitOptions {
  readonly sendMs: number;
  readonly unsentBytesMax: number;
}

interface Unsent {
  readonly bytes: number;
  /** Ends its connection. */
  readonly hangUp: () => void;
}

export class SendLimit {
  /** L3: whoever makes an answer counts it here. */
  makingBytes = 0;
  readonly #options: SendLimitOptions;
  /** The one that waits for longest is first. */
  readonly #unsent: Set<Unsent> = new Set();
  #bytes = 0;

  constructor(options: SendLimitOptions) {
    this.#options = options;
  }

  /** Bytes of answers that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** L3. */
  get isFull(): boolean {
    return this.makingBytes > this.#options.unsentBytesMax;
  }

  /** The whole answer has been written, so many bytes. */
  watch(response: ServerResponse, bytes: number): void {
    if (response.writableFinished || response.destroyed) return;
    const done = this.begin(bytes, () => hangUp(response));
    response.once("finish", done);
    response.once("close", done);
  }

  /** So many bytes wait to be read; `hangUp` ends their connection. Returns what is to be called when they wait no more. */
  begin(bytes: number, hangUp: () => void): () => void {
    const unsent = { bytes, hangUp };
    this.#unsent.add(unsent);
    this.#bytes += bytes;
    const timer = setTimeout(hangUp, this.#options.sendMs);
    for (const oldest of this.#unsent) {
      if (this.#bytes <= this.#options.unsentBytesMax || oldest === unsent) break;
      this.#forget(oldest);
      oldest.hangUp();
    }
    return () => {
      clearTimeout(timer);
      this.#forget(unsent);
    };
  }

  /** Resolves when more may be written, or when nobody reads any more. */
  drained(response: ServerResponse): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => hangUp(response), this.#options.sendMs);
      const done = (): void => {
        clearTimeout(timer);
        response.off("drain", done);
        response.off("close", done);
        resolve();
      };
      response.on("drain", done);
      response.on("close", done);
    });
  }

  #forget(unsent: Unsent): void {
    if (this.#unsent.delete(unsent)) this.#bytes -= unsent.bytes;
  }
}

/** Also for an answer that waits behind others: it has no connection of its own yet. */
function hangUp(response: ServerResponse): void {
  response.req.socket.destroy();
}
