/**
 * What bounds the memory of answers that clients do not read.
 *
 * L1. An answer, or a piece of one, that a client has left unread for `sendMs` ends its connection.
 * L2. All that is unread has `unsentBytesMax` bytes at most: beyond it the connection whose answer waits for longest ends, but not
 *     the one that was answered last.
 */
import type { ServerResponse } from "node:http";

export interface SendLimitOptions {
  readonly sendMs: number;
  readonly unsentBytesMax: number;
}

export class SendLimit {
  readonly #options: SendLimitOptions;
  /** The one that waits for longest is first. */
  readonly #unsent: Map<ServerResponse, number> = new Map();
  #bytes = 0;

  constructor(options: SendLimitOptions) {
    this.#options = options;
  }

  /** Bytes of answers that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The whole answer has been written, so many bytes. */
  watch(response: ServerResponse, bytes: number): void {
    if (response.writableFinished || response.destroyed) return;
    this.#unsent.set(response, bytes);
    this.#bytes += bytes;
    const timer = setTimeout(() => hangUp(response), this.#options.sendMs);
    const done = (): void => {
      clearTimeout(timer);
      this.#forget(response);
    };
    response.once("finish", done);
    response.once("close", done);
    for (const oldest of this.#unsent.keys()) {
      if (this.#bytes <= this.#options.unsentBytesMax || oldest === response) return;
      this.#forget(oldest);
      hangUp(oldest);
    }
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

  #forget(response: ServerResponse): void {
    this.#bytes -= this.#unsent.get(response) ?? 0;
    this.#unsent.delete(response);
  }
}

/** Also for an answer that waits behind others: it has no connection of its own yet. */
function hangUp(response: ServerResponse): void {
  response.req.socket.destroy();
}
