/**
 * Requests that the event loop finds together go through the server in stages: all are read, then each is run, then all are answered. What a
 * stage needs stays in the processor's caches meanwhile (a request by itself brings in the code of HTTP, SQL and sockets anew), and a client that
 * waits for several answers is woken once. With 16 connections that took 0.7 of the processor time.
 *
 *   read --begin--> waits for the next turn of the event loop --> run --end--> waits for the next turn --> sent
 *
 * S1. Each is run in a task of its own: one that has to wait, for whatever, lets the next begin.
 * S2. Nothing waits longer than for what the event loop has found in the same turn.
 * S3. What comes on the connection that the request before came on, while none waits, is run and sent at once: that connection is the only one
 *     that asks, mostly.
 * S4. Requests begin to run in the order in which they were read.
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

interface Ready {
  readonly response: ServerResponse;
  readonly body: string;
}

export class Stages {
  /** Where the last request came from. */
  #last: Socket | null = null;
  /** Requests that were read and do not run yet. */
  #waiting = 0;
  #ready: Ready[] = [];
  readonly #onSent: () => void;

  /** `onSent`: called when answers have been ended that others had to wait for. */
  constructor(onSent: () => void) {
    this.#onSent = onSent;
  }

  /** Resolves when what came together with this request has been read, too. Null: it is to be run now (S3). */
  begin(socket: Socket): Promise<void> | null {
    if (socket === this.#last && this.#waiting === 0) return null; // S4
    this.#last = socket;
    this.#waiting++;
    return new Promise((resolve) =>
      setImmediate(() => {
        this.#waiting--;
        resolve();
      }),
    );
  }

  /** Ends the response, whose header is written, with what is ready in the same turn. */
  end(response: ServerResponse, body: string): void {
    if (response.socket === this.#last) response.end(body);
    else if (this.#ready.push({ response, body }) === 1) setImmediate(() => this.#send());
  }

  #send(): void {
    const ready = this.#ready;
    this.#ready = [];
    for (const { response, body } of ready) response.end(body);
    this.#onSent();
  }
}
