/**
 * A store whose databases are spread over threads, as the server needs it: in each thread is what serves its partitions in one
 * (partition-service.ts), and calls go there.
 */
import { parseRevision } from "../../branch/revision.ts";
import { StoreError } from "../../errors.ts";
import { sumOf } from "../../store/partition-reports.ts";
import type { DiskStatistics } from "../../store/statistics.ts";
import { type StoreCounters, wholeCounters } from "../../store/store-counters.ts";
import type { ThreadLoad } from "../../threads/owner.ts";
import type { ServiceClient } from "../../threads/service-client.ts";
import type { ThreadedStore } from "../../threads/threaded-store.ts";
import { runnableModule, siblingModule } from "../../worker-program.ts";
import type { Principal } from "../access.ts";
import type { LocalStoreOptions } from "../local-store.ts";
import type { FoundRevision, ServedConnection, ServedStore } from "../served-store.ts";
import { type CarriedPrincipal, carryPrincipal } from "./carried-principal.ts";
import type { OpenedThing, PartitionCall } from "./partition-service.ts";
import { ThreadedServedConnection } from "./threaded-served-connection.ts";

const SERVICE: string = runnableModule(siblingModule("partition-service", import.meta.url));

/** For ThreadedServedStore and ThreadedAdminStore. */
export function hostService(store: ThreadedStore, options: LocalStoreOptions): ServiceClient {
  return store.host({ url: SERVICE, options });
}

export class ThreadedServedStore implements ServedStore {
  readonly #store: ThreadedStore;
  readonly #client: ServiceClient;
  readonly #principals: WeakMap<Principal, CarriedPrincipal> = new WeakMap();

  constructor(store: ThreadedStore, client: ServiceClient) {
    this.#store = store;
    this.#client = client;
  }

  get loads(): readonly ThreadLoad[] {
    return this.#store.loads;
  }

  async open(revision: string, principal: Principal): Promise<ServedConnection> {
    const parameters: OpenedThing = ["connection", revision, this.#carried(principal)];
    const thing = await withNames(this.#client, revision, () =>
      this.#client.open(revision, parameters),
    );
    return new ThreadedServedConnection(thing);
  }

  async lookUp(revision: string): Promise<FoundRevision> {
    const call: PartitionCall = ["lookUp", revision];
    const found = withNames(this.#client, revision, () => this.#client.ask(revision, call));
    return (await found) as FoundRevision;
  }

  async ensureDatabase(name: string): Promise<void> {
    try {
      await this.#store.createDatabase(name);
    } catch (error) {
      if (!(error instanceof StoreError && error.code === "DATABASE_EXISTS")) throw error;
    }
  }

  /** A partition whose thread does not answer has failed, and is not counted otherwise. */
  async counters(): Promise<StoreCounters> {
    const { reports, failures } = await this.#reports<StoreCounters>(["counters"]);
    const whole = wholeCounters(reports);
    return {
      ...whole,
      partitions: whole.partitions + failures,
      failedPartitions: whole.failedPartitions + failures,
    };
  }

  /** Of partitions whose thread answers. */
  async diskUse(): Promise<DiskStatistics> {
    return sumOf((await this.#reports<DiskStatistics>(["diskUse"])).reports);
  }

  async headBytes(names: readonly string[]): Promise<(readonly [string, number])[]> {
    const call: PartitionCall = ["headBytes", names];
    return (await this.#reports<(readonly [string, number])[]>(call)).reports.flat();
  }

  async close(): Promise<void> {
    await this.#client.end();
  }

  /** At least one; throws why there is none. */
  async #reports<Report>(
    call: PartitionCall,
  ): Promise<{ readonly reports: Report[]; readonly failures: number }> {
    const answers = await this.#client.askAll(call);
    const reports = answers.flatMap((answer) =>
      answer.status === "fulfilled" ? [answer.value as Report] : [],
    );
    if (reports.length === 0)
      for (const answer of answers) if (answer.status === "rejected") throw answer.reason;
    return { reports, failures: answers.length - reports.length };
  }

  #carried(principal: Principal): CarriedPrincipal {
    let carried = this.#principals.get(principal);
    if (carried === undefined)
      this.#principals.set(principal, (carried = carryPrincipal(principal)));
    return carried;
  }
}

/** A partition knows its own databases only: what else there is, is said here. */
async function withNames<T>(
  client: ServiceClient,
  revision: string,
  ask: () => Promise<T>,
): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof StoreError && error.code === "DATABASE_NOT_FOUND")) throw error;
    throw client.notFound(parseRevision(revision).database);
  }
}
