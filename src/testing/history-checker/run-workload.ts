/**
 * Drives many clients of a store at once, and writes down what they were answered.
 *
 * N1. Times are counted, not measured: each beginning and each end of a transaction takes the next number. What ended
 *     with a smaller number than another one began with had really ended before.
 * N2. A client does one transaction at a time. After an unknown outcome it goes on under another number, on a connection
 *     that is made anew: it does not know what of it is still under way.
 * N3. The final reads begin when everything else has ended. One that fails is done again; the store must answer them.
 */
import type { Random } from "../random.ts";
import type { History, Operation, OutcomeStatus, Transaction } from "./history.ts";
import type { PlannedOperation, Workload } from "./workload.ts";

export interface Outcome {
  readonly status: OutcomeStatus;
  /** What was begun, with its results (H3 of history.ts). */
  readonly operations: readonly Operation[];
}

/** One client's way to a store. */
export interface Client {
  transact(operations: readonly PlannedOperation[]): Promise<Outcome>;
  close?(): void | Promise<void>;
}

export interface RunWorkloadOptions {
  readonly random: Random;
  readonly workload: Workload;
  readonly clientCount: number;
  readonly transactionCount: number;
  /** Called for each client at the beginning, after each unknown outcome, and for the final reads. */
  readonly connect: (client: number) => Client | Promise<Client>;
  /** Time to think before a transaction; when not given, up to three turns of the event loop. */
  readonly think?: (client: number) => Promise<void>;
  /** Awaited before the transaction with this number begins, while others are under way: to crash, to checkpoint, to fork. */
  readonly between?: (transaction: number) => void | Promise<void>;
  /** When everything but the final reads has ended. */
  readonly beforeFinalReads?: () => void | Promise<void>;
}

const FINAL_TRIES_MAX = 20;

export async function runWorkload(options: RunWorkloadOptions): Promise<History> {
  const run = new WorkloadRun(options);
  const clients = Array.from({ length: options.clientCount }, (_, client) => run.client(client));
  await Promise.all(clients);
  await options.beforeFinalReads?.();
  await run.finalReads();
  return { transactions: run.transactions };
}

class WorkloadRun {
  readonly transactions: Transaction[] = [];
  readonly #options: RunWorkloadOptions;
  readonly #think: Random;
  #clock = 0;
  #begun = 0;
  #clientCount: number;

  constructor(options: RunWorkloadOptions) {
    this.#options = options;
    this.#think = options.random.fork();
    this.#clientCount = options.clientCount;
  }

  async client(number: number): Promise<void> {
    const { connect, transactionCount, workload, between } = this.#options;
    let client = await connect(number);
    let name = number;
    while (this.#begun < transactionCount) {
      const transaction = this.#begun++;
      await this.#pause(number);
      await between?.(transaction);
      const status = await this.#transact(client, name, workload.transaction(), false);
      if (status !== "unknown") continue;
      await client.close?.();
      client = await connect(number);
      name = this.#clientCount++;
    }
    await client.close?.();
  }

  async finalReads(): Promise<void> {
    const name = this.#clientCount++;
    for (const operations of this.#options.workload.finalReads()) {
      let client = await this.#options.connect(name);
      let status: OutcomeStatus = "unknown";
      for (let tries = 0; status !== "ok"; tries++) {
        if (tries === FINAL_TRIES_MAX) {
          throw new Error(`The final reads were not answered: ${tries} tries ended as ${status}`);
        }
        status = await this.#transact(client, name, operations, true);
        if (status === "unknown") {
          await client.close?.();
          client = await this.#options.connect(name);
        }
      }
      await client.close?.();
    }
  }

  async #transact(
    client: Client,
    name: number,
    operations: readonly PlannedOperation[],
    isFinal: boolean,
  ): Promise<OutcomeStatus> {
    const invoked = ++this.#clock;
    const outcome = await client.transact(operations);
    const completed = ++this.#clock;
    this.transactions.push({
      client: name,
      invoked,
      completed,
      ...outcome,
      ...(isFinal ? { final: true } : {}),
    });
    return outcome.status;
  }

  async #pause(client: number): Promise<void> {
    if (this.#options.think !== undefined) return this.#options.think(client);
    for (let turns = this.#think.integer(0, 3); turns > 0; turns--) await nextTurn();
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
