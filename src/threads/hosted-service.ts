/**
 * What a layer above has run beside the partitions, in the threads that own them: a module whose `makeService` is called once in each
 * thread.
 *
 *   loading --its module is there--> loaded --end--> (none)
 *      +---- it cannot be loaded: every call on it fails with that
 *
 * V1. Calls that come while it is loaded wait for it, and begin in the order in which they were made.
 * V2. A thing belongs to the caller's number from its opening to the call "close", whatever that ends with.
 */
import { invariant } from "../errors.ts";
import type { SingleStore } from "../store/single-store.ts";
import { type Call, Operation } from "./message.ts";
import type { CallContext, Served } from "./served.ts";

export interface HostedService {
  /** Something that the caller has until it closes it, such as a connection. */
  open(
    partition: SingleStore,
    parameters: readonly unknown[],
    context: CallContext,
  ): Promise<HostedThing>;
  /** A call of the partition. */
  answer(
    partition: SingleStore,
    parameters: readonly unknown[],
    context: CallContext,
  ): Promise<unknown>;
  end(): Promise<void>;
}

export interface HostedThing {
  /** "close" is its last one. */
  answer(method: string, parameters: readonly unknown[], context: CallContext): Promise<unknown>;
  /** Ends what is running, if it can be reached. */
  interrupt(): void;
}

interface ServiceModule {
  readonly makeService: (options: unknown) => HostedService;
}

/** The services of one thread, by the caller's numbers. */
export class HostedServices {
  readonly #services: Map<number, Promise<HostedService>> = new Map();

  load(number: number, url: string, options: unknown): void {
    const loading = import(url).then((loaded: ServiceModule) => loaded.makeService(options));
    loading.catch(() => {}); // Told to every call.
    this.#services.set(number, loading);
  }

  async find(number: number): Promise<HostedService> {
    const service = this.#services.get(number);
    invariant(service !== undefined, `Service ${number} is loaded`);
    return await service;
  }

  async end(number: number): Promise<void> {
    const service = this.#services.get(number);
    this.#services.delete(number);
    await (await service)?.end();
  }
}

/** V2. */
export class ServedThing implements Served {
  readonly group: string;
  readonly inTransaction = false;
  readonly #services: HostedServices;
  readonly #partition: SingleStore;
  readonly #onClosed: () => void;
  #thing: HostedThing | null = null;

  constructor(
    services: HostedServices,
    partition: SingleStore,
    { group, onClosed }: { readonly group: string; readonly onClosed: () => void },
  ) {
    this.#services = services;
    this.#partition = partition;
    this.group = group;
    this.#onClosed = onClosed;
  }

  interrupt(): void {
    this.#thing?.interrupt();
  }

  async answer([, operation, , , , parameters]: Call, context: CallContext): Promise<unknown> {
    if (operation === Operation.openThing) return await this.#open(parameters, context);
    const thing = this.#thing;
    invariant(thing !== null, "A thing is used once it is open");
    const [method, ...rest] = parameters as [string];
    if (method !== "close") return await thing.answer(method, rest, context);
    try {
      return await thing.answer(method, rest, context);
    } finally {
      this.#onClosed();
    }
  }

  async #open([, , number, ...rest]: readonly unknown[], context: CallContext): Promise<void> {
    try {
      const service = await this.#services.find(number as number);
      this.#thing = await service.open(this.#partition, rest, context);
    } catch (error) {
      this.#onClosed();
      throw error;
    }
  }
}
