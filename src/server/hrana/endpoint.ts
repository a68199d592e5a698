/** What the transports of Hrana have in common: a revision, for one client. */
import { parseRevision, type Revision } from "../../branch/revision.ts";
import { StoreError } from "../../errors.ts";
import type { Principal } from "../access.ts";
import type {
  DatabaseCounters,
  EndedStatement,
  ServerCounters,
} from "../operations/server-counters.ts";
import type { ServedConnection, ServedStore } from "../served-store.ts";
import type { ServerSettings } from "../setting-list.ts";
import { HranaStream, type StreamObserver } from "./stream.ts";
import type { StoredSql } from "./stored-sql.ts";
import type { StreamOwner, StreamTable } from "./stream-table.ts";

export interface HranaContext {
  readonly store: ServedStore;
  readonly settings: ServerSettings;
  readonly streams: StreamTable;
  readonly now: () => number;
  readonly counters: ServerCounters;
  readonly onBug: (error: unknown) => void;
}

export class Endpoint implements StreamObserver {
  readonly context: HranaContext;
  readonly revision: string;
  readonly principal: Principal;
  /** Once the database was found to be there. */
  #database: DatabaseCounters | null = null;

  constructor(context: HranaContext, revision: string, principal: Principal) {
    this.context = context;
    this.revision = revision;
    this.principal = principal;
  }

  get owner(): StreamOwner {
    return { endpoint: this.revision, principal: this.principal.id };
  }

  /** Throws STREAM_LIMIT. Remove it from the table of streams when it is done. */
  openStream(stored?: StoredSql): HranaStream {
    const { settings, streams, now, onBug } = this.context;
    const stream = new HranaStream({
      connect: () => this.#connect(),
      observer: this,
      transactionMs: settings.transactionMs,
      now,
      onBug,
      ...(stored === undefined ? {} : { stored }),
    });
    streams.add(stream);
    return stream;
  }

  statementEnded(ended: EndedStatement): void {
    const { counters } = this.context;
    if (this.#database !== null) counters.statementEnded(this.revision, this.#database, ended);
  }

  waited(durationMs: number): void {
    this.context.counters.durableWaits.note(durationMs);
  }

  async #connect(): Promise<ServedConnection> {
    const revision = parseRevision(this.revision);
    const connection = await this.#open(revision);
    this.#database = this.context.counters.database(revision.database);
    return connection;
  }

  async #open(revision: Revision): Promise<ServedConnection> {
    const { store } = this.context;
    const level = this.principal.levelFor(revision);
    // What one may not know of is not there.
    if (level === "none") throw notFound(this.revision);
    const options = { readonly: level === "read" };
    try {
      return await store.open(this.revision, options);
    } catch (error) {
      if (!this.#isMissingDefault(error)) throw error;
      await store.ensureDatabase(this.revision);
      return await store.open(this.revision, options);
    }
  }

  #isMissingDefault(error: unknown): boolean {
    return (
      error instanceof StoreError &&
      error.code === "DATABASE_NOT_FOUND" &&
      this.revision === this.context.settings.defaultDatabase
    );
  }
}

function notFound(revision: string): StoreError {
  const { database } = parseRevision(revision);
  return new StoreError(
    "DATABASE_NOT_FOUND",
    `Cannot open database "${database}": there is none of that name`,
  );
}
