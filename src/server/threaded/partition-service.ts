/**
 * What the server has run in each thread that owns partitions (hosted-service.ts): the same stores as in one thread, one for each
 * partition, whose calls come as messages.
 */
import type { HostedService, HostedThing } from "../../threads/hosted-service.ts";
import type { SingleStore } from "../../store/single-store.ts";
import type { AdminStore } from "../admin/admin-store.ts";
import { LocalAdminStore } from "../admin/local-admin-store.ts";
import { LocalStore, type LocalStoreOptions } from "../local-store.ts";
import { type CarriedPrincipal, revivePrincipal } from "./carried-principal.ts";
import { PartitionConnection } from "./partition-connection.ts";
import { PartitionFile } from "./partition-file.ts";

/**
 * More than in one thread: calls come and go in messages, many at once, so that each client's connection is there for as long as its
 * message is on its way, and the next one wants it again.
 */
const IDLE_MAX = 256;

/** Called as the module is loaded (ServiceModule). */
export function makeService(options: LocalStoreOptions): PartitionService {
  return new PartitionService(options);
}

/** A method of AdminStore whose parameters and result are plain data. */
export type AdminMethod = {
  [Name in keyof AdminStore]: AdminStore[Name] extends (...parameters: never) => unknown
    ? Name
    : never;
}[keyof AdminStore];

/** The parameters of a call of a partition. */
export type PartitionCall =
  | readonly [kind: "admin", method: AdminMethod, ...parameters: readonly unknown[]]
  | readonly [kind: "lookUp", revision: string]
  /** IdUse. */
  | readonly [kind: "idUse", id: number]
  | readonly [kind: "headBytes", names: readonly string[]]
  | readonly [kind: "counters" | "diskUse"];

/** The parameters by which something is opened. */
export type OpenedThing =
  | readonly [kind: "connection", revision: string, principal: CarriedPrincipal]
  | readonly [kind: "file", revision: string];

/** Which database has or had a number; null: none. */
export type IdUse = { readonly name: string; readonly isDeleted: boolean } | null;

interface Stores {
  readonly served: LocalStore;
  readonly admin: LocalAdminStore;
}

export class PartitionService implements HostedService {
  readonly #options: LocalStoreOptions;
  readonly #stores: Map<SingleStore, Stores> = new Map();

  constructor(options: LocalStoreOptions) {
    this.#options = options;
  }

  async open(partition: SingleStore, parameters: readonly unknown[]): Promise<HostedThing> {
    const { served, admin } = this.#of(partition);
    const [kind, revision, principal] = parameters as unknown as OpenedThing;
    if (kind === "file") return new PartitionFile(await admin.exportRevision(revision));
    return new PartitionConnection(await served.open(revision, revivePrincipal(principal)));
  }

  async answer(partition: SingleStore, parameters: readonly unknown[]): Promise<unknown> {
    const { served, admin } = this.#of(partition);
    const call = parameters as unknown as PartitionCall;
    switch (call[0]) {
      case "admin": {
        const [, name, ...given] = call;
        const method = admin[name] as (...all: unknown[]) => Promise<unknown>;
        return await method.call(admin, ...given);
      }
      case "lookUp":
        return await served.lookUp(call[1]);
      case "idUse":
        return idUse(partition, call[1]);
      case "headBytes":
        return await served.headBytes(call[1]);
      case "counters":
        return await served.counters();
      case "diskUse":
        return await served.diskUse();
    }
  }

  async end(): Promise<void> {
    await Promise.all([...this.#stores.values()].map(({ served }) => served.close()));
  }

  #of(partition: SingleStore): Stores {
    let stores = this.#stores.get(partition);
    if (stores === undefined) {
      const served = new LocalStore(partition, { ...this.#options, idleMax: IDLE_MAX });
      const admin = new LocalAdminStore(partition, { takesUploads: false });
      this.#stores.set(partition, (stores = { served, admin }));
    }
    return stores;
  }
}

function idUse({ engine }: SingleStore, id: number): IdUse {
  const row = engine.state.databases.get(id)?.refs.row;
  return row === undefined ? null : { name: row.name, isDeleted: row.deletedAtMs !== null };
}
