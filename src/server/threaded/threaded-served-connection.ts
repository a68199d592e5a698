/**
 * A connection of the server whose database another thread owns.
 *
 *   open --close()--> closed          open --its thread ends--> lost: calls are rejected with OWNER_LOST
 *
 * O3. What is known without a call is as of the last call that has ended. A lost one has no transaction any more, and nobody can go on in its
 *     place.
 * O4. It stays in the thread that it was opened in: when its database is handed over, calls are rejected with OTHER_PARTITION.
 */
import type { CallLimits } from "../../sqlite/async-calls.ts";
import type {
  Executed,
  ExecuteRequest,
  RowSink,
  StatementDescription,
} from "../../sqlite/async-executor.ts";
import { errorOf } from "../../threads/owner-thread.ts";
import type { ThingHandle } from "../../threads/service-client.ts";
import type { ServedConnection } from "../served-store.ts";
import type { ConnectionEvent, Told } from "./connection-message.ts";
import { RowTaker } from "./row-taker.ts";

const UNBOUNDED = { isUnbounded: true };

export class ThreadedServedConnection implements ServedConnection {
  readonly #thing: ThingHandle;
  #isAutocommit = true;
  #isClean = true;
  #isClosed = false;
  #statements = 0;
  /** What has been told and is not durable yet, or never will be. */
  readonly #unsettled: Set<Promise<unknown>> = new Set();

  constructor(thing: ThingHandle) {
    this.#thing = thing;
  }

  get isAutocommit(): boolean {
    return this.#isAutocommit || this.#thing.isLost;
  }

  get isClean(): boolean {
    return this.#isClean && !this.#isClosed && !this.#thing.isLost;
  }

  async execute(
    { sql, values, namedValues }: ExecuteRequest,
    sink: RowSink,
    limits: CallLimits = {},
  ): Promise<Executed> {
    const thing = this.#thing;
    const number = ++this.#statements;
    const tell = (method: string, ...parameters: unknown[]): void => {
      thing.call(method, [number, ...parameters], UNBOUNDED).catch(() => {}); // The statement says it.
    };
    const taker = new RowTaker(sink, {
      taken: (bytes) => tell("taken", bytes),
      stop: () => tell("stop"),
    });
    const request = { sql, values, namedValues };
    const parameters = [number, request, sink.wantsRows];
    const told = await this.#call("execute", { parameters, limits, taker });
    return told as Executed;
  }

  async script(sql: string, limits: CallLimits = {}): Promise<void> {
    await this.#call("script", { parameters: [sql], limits });
  }

  async describe(sql: string, limits: CallLimits = {}): Promise<StatementDescription> {
    return (await this.#call("describe", { parameters: [sql], limits })) as StatementDescription;
  }

  async rollBack(): Promise<void> {
    if (this.#thing.isLost) return;
    await this.#call("rollBack", { parameters: [], limits: {} });
  }

  settled(isLast = false): Promise<void> | null {
    // Also what the transaction has read.
    const asked =
      isLast && !this.isAutocommit ? [this.#thing.call("settled", [true], UNBOUNDED)] : [];
    if (this.#unsettled.size + asked.length === 0) return null;
    return allOf([...this.#unsettled, ...asked]);
  }

  interrupt(): void {
    this.#thing.interrupt();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const closed = this.#thing.call("close", [], UNBOUNDED);
    closed.catch(() => {}); // Lost with its thread.
    // Nobody waits for one that has nothing to roll back.
    if (!this.isAutocommit) await closed.catch(() => {});
  }

  /** Resolves when it has ended; what it tells of may not be durable yet. */
  #call(
    method: string,
    {
      parameters,
      limits,
      taker = null,
    }: {
      readonly parameters: readonly unknown[];
      readonly limits: CallLimits;
      readonly taker?: RowTaker | null;
    },
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const end = (told: Told): void => {
        this.#isAutocommit = told.isAutocommit;
        this.#isClean = told.isClean;
        const taking = told.batch === null ? null : (taker?.takeLast(told.batch) ?? null);
        const finish = (): void => {
          if (taker !== null && taker.failure !== null) reject(taker.failure.error);
          else if (told.error === null) resolve(told.value);
          else reject(errorOf(told.error, limits.signal));
        };
        if (taking === null) finish();
        else void taking.finally(finish);
      };
      const onEvent = (value: unknown): void => {
        const event = value as ConnectionEvent;
        if (event.kind === "rows") taker?.take(event.batch);
        else {
          void this.#await(answer);
          end(event.told);
        }
      };
      const answer = this.#thing.call(method, parameters, { limits, onEvent });
      const answered = async (): Promise<void> => {
        const told = await answer;
        if (told !== null) end(told as Told);
      };
      answered().catch(reject);
    });
  }

  async #await(answer: Promise<unknown>): Promise<void> {
    this.#unsettled.add(answer);
    try {
      await answer;
      this.#unsettled.delete(answer);
    } catch {
      this.#isClean = false; // Stays, to be told.
    }
  }
}

async function allOf(promises: readonly Promise<unknown>[]): Promise<void> {
  await Promise.all(promises);
}
