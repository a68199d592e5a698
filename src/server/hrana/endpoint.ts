/** What the transports of Hrana have in common: a revision, for one client. */
import { StoreError } from "../../errors.ts";
import type { Access, Principal } from "../access.ts";
import { permits, withoutOtherNames } from "../access/principal.ts";
import { describeFailure, encodeFailure } from "../failure.ts";
import type { SendLimit } from "../send-limit.ts";
import type { ServedConnection, ServedStore } from "../served-store.ts";
import type { ServerSettings } from "../setting-list.ts";
import { HranaStream } from "./stream.ts";
import type { StoredSql } from "./stored-sql.ts";
import type { StreamOwner, StreamTable } from "./stream-table.ts";

export interface HranaContext {
  readonly store: ServedStore;
  readonly settings: ServerSettings;
  readonly streams: StreamTable;
  readonly access: Access;
  readonly sending: SendLimit;
  readonly now: () => number;
  readonly onBug: (error: unknown) => void;
}

export class Endpoint {
  readonly context: HranaContext;
  readonly revision: string;
  readonly principal: Principal;
  /** Whose streams are counted together: all of a token, or of an address. */
  readonly #client: string;

  constructor(
    context: HranaContext,
    given: {
      readonly revision: string;
      readonly principal: Principal;
      readonly address: string | undefined;
    },
  ) {
    const { revision, principal, address = "" } = given;
    this.context = context;
    this.revision = revision;
    this.principal = principal;
    this.#client = principal.id === null ? address : `${principal.issuer ?? ""} ${principal.id}`;
  }

  get owner(): StreamOwner {
    const { issuer, id } = this.principal;
    return { endpoint: this.revision, principal: `${issuer ?? ""} ${id ?? ""}` };
  }

  /** Throws STREAM_LIMIT. Remove it from the table of streams when it is done. */
  openStream(stored?: StoredSql): HranaStream {
    const { settings, streams, now } = this.context;
    const stream = new HranaStream({
      connect: () => this.#connect(),
      transactionMs: settings.transactionMs,
      now,
      encodeFailure: (error) => this.encodeFailure(error),
      isAllowed: () => this.context.access.isCurrent(this.principal),
      ...(stored === undefined ? {} : { stored }),
    });
    streams.add(stream, this.#client);
    return stream;
  }

  async #connect(): Promise<ServedConnection> {
    const { store } = this.context;
    try {
      return await store.open(this.revision, this.principal);
    } catch (error) {
      if (!this.#isMissingDefault(error)) throw error;
      await store.ensureDatabase(this.revision);
      return await store.open(this.revision, this.principal);
    }
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
