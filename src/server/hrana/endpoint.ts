/** What the transports of Hrana have in common: a revision, for one client. */
import { parseRevision } from "../../branch/revision.ts";
import { StoreError } from "../../errors.ts";
import type { Access, Principal } from "../access.ts";
import { ownerId, permits, withoutOtherNames } from "../access/principal.ts";
import { describeFailure, encodeFailure } from "../failure.ts";
import type {
  DatabaseCounters,
  EndedStatement,
  ServerCounters,
} from "../operations/server-counters.ts";
import type { Span, Tracing } from "../operations/tracing.ts";
import type { SendLimit } from "../send-limit.ts";
import type { Stages } from "../stages.ts";
import type { ServedConnection, ServedStore } from "../served-store.ts";
import type { ServerSettings } from "../setting-list.ts";
import { HranaStream, type StreamObserver } from "./stream.ts";
import type { StoredLength, StoredSql } from "./stored-sql.ts";
import type { StreamOwner, StreamTable } from "./stream-table.ts";

export interface HranaContext {
  readonly store: ServedStore;
  readonly settings: ServerSettings;
  readonly streams: StreamTable;
  readonly access: Access;
  readonly sending: SendLimit;
  readonly stages: Stages;
  readonly storedSql: StoredLength;
  readonly now: () => number;
  readonly counters: ServerCounters;
  /** Null: there are no spans. */
  readonly tracing: Tracing | null;
  readonly onBug: (error: unknown) => void;
}

export class Endpoint implements StreamObserver {
  readonly context: HranaContext;
  readonly revision: string;
  readonly principal: Principal;
  /** Of the request over HTTP that it is for; over WebSocket each has its own. */
  readonly span: Span | null;
  /** Once the database was found to be there. */
  #database: DatabaseCounters | null = null;
  /** Whose streams are counted together: all of a token, or of an address. */
  readonly #client: string;

  constructor(
    context: HranaContext,
    given: {
      readonly revision: string;
      readonly principal: Principal;
      readonly address: string | undefined;
      readonly span?: Span | null;
    },
  ) {
    const { revision, principal, address = "", span = null } = given;
    this.context = context;
    this.revision = revision;
    this.principal = principal;
    this.span = span;
    this.#client = principal.id === null ? address : ownerId(principal);
  }

  get owner(): StreamOwner {
    return { endpoint: this.revision, principal: ownerId(this.principal) };
  }

  /** Throws STREAM_LIMIT. Remove it from the table of streams when it is done. */
  openStream(stored?: StoredSql): HranaStream {
    const { settings, streams, now } = this.context;
    const stream = new HranaStream({
      connect: () => this.#connect(),
      observer: this,
      transactionMs: settings.transactionMs,
      now,
      encodeFailure: (error) => this.encodeFailure(error),
      isAllowed: () => this.context.access.isCurrent(this.principal),
      ...(stored === undefined ? { storedLength: this.context.storedSql } : { stored }),
    });
    streams.add(stream, this.#client);
    return stream;
  }

  connected(): void {
    if (this.#database !== null) this.#database.streams++;
  }

  disconnected(): void {
    if (this.#database !== null) this.#database.streams--;
  }

  statementEnded(ended: EndedStatement, span: Span | null): void {
    const { counters } = this.context;
    if (this.#database !== null) counters.statementEnded(this.revision, this.#database, ended);
    span?.statementEnded(ended);
  }

  waited(durationMs: number, span: Span | null): void {
    this.context.counters.durableWaits.note(durationMs);
    span?.waited(durationMs);
  }

  async #connect(): Promise<ServedConnection> {
    const { store, counters } = this.context;
    let connection: ServedConnection;
    try {
      const opening = store.open(this.revision, this.principal);
      connection = opening instanceof Promise ? await opening : opening;
    } catch (error) {
      if (!this.#isMissingDefault(error)) throw error;
      await store.ensureDatabase(this.revision);
      connection = await store.open(this.revision, this.principal);
    }
    this.#database = counters.database(parseRevision(this.revision).database);
    return connection;
  }

  #isMissingDefault(error: unknown): boolean {
    return (
      error instanceof StoreError &&
      error.code === "DATABASE_NOT_FOUND" &&
      this.revision === this.context.settings.defaultDatabase &&
      permits(this.principal, { action: "admin", database: this.revision, branch: null })
    );
  }

  /** As this client may see it. */
  encodeFailure(error: unknown): string {
    const failure = describeFailure(withoutOtherNames(this.principal, error));
    if (failure.isInternal) this.context.onBug(error);
    return encodeFailure(failure);
  }
}
