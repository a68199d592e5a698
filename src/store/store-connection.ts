/** A connection on a revision of a store: better-sqlite3's API, and commits that are awaited. */
import { Connection } from "../sqlite/connection.ts";
import type { BackupOptions, BackupProgress } from "../sqlite/backup.ts";
import { backupRevision } from "./backup.ts";
import type { Session } from "./session.ts";

export class StoreConnection extends Connection {
  readonly #session: Session;

  /** @internal */
  constructor(session: Session) {
    super(session.runtime, session.connectionOptions);
    this.#session = session;
    session.attach(this);
  }

  /**
   * Runs `body` now; the promise resolves with its result once every commit that it made is durable. Many of these in
   * flight share one write and sync. Rejects when `body` throws, or when the log fails: then the outcome is known only
   * after the store was opened again. Others can see the commits before they are durable.
   */
  durably<T>(body: () => T): Promise<T> {
    return this.#session.durably(body);
  }

  /**
   * Writes the revision, as it is now, to a plain SQLite file, which is replaced as a whole. Changes of a transaction that is
   * still open are not in it.
   */
  override backup(destination: string, options?: BackupOptions | null): Promise<BackupProgress> {
    return backupRevision(this, this.#session, destination, options);
  }

  override close(): this {
    const wasOpen = this.open;
    super.close();
    if (wasOpen) this.#session.release();
    return this;
  }
}
