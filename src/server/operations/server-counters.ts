/**
 * What the server counts, as plain numbers that are read when somebody asks for the metrics.
 *
 * Y1. Databases are counted by name once somebody has reached them, up to `metricsDatabasesMax`: names that are tried cost nothing, and the
 *     list does not grow for ever. Those that come later are in the sums only.
 */
import { describeFailure } from "../failure.ts";
import type { ServerSettings } from "../setting-list.ts";
import { Latencies } from "./latencies.ts";
import type { ServerLog } from "./server-log.ts";

export type RequestKind =
  | "pipeline"
  | "cursor"
  | "stateless"
  | "api"
  | "metrics"
  | "probe"
  /** Who is there, and what from other origins is allowed. */
  | "question"
  /** Any that was refused. */
  | "failed";

export interface DatabaseCounters {
  /** Open now. */
  streams: number;
  statements: number;
  statementMs: number;
  rowsRead: number;
  rowsWritten: number;
  failures: number;
  conflicts: number;
}

/** A statement that has ended; parameters are none of it (W1 in server-log.ts). */
export interface EndedStatement {
  readonly sql: string;
  readonly durationMs: number;
  readonly rowCount: number;
  readonly changes: number;
  /** Null: it has done what it was to do. */
  readonly error: unknown;
}

export interface ServerCountersOptions {
  readonly settings: Pick<ServerSettings, "metricsDatabasesMax" | "slowQueryMs">;
  readonly log: ServerLog;
}

const SQL_LENGTH_MAX = 4000;

export class ServerCounters {
  readonly requests: Map<RequestKind, Latencies> = new Map();
  /** By code. */
  readonly requestFailures: Map<string, number> = new Map();
  readonly statements: Latencies = new Latencies();
  /** By code. */
  readonly statementFailures: Map<string, number> = new Map();
  /** How long answers waited until what they tell was durable. */
  readonly durableWaits: Latencies = new Latencies();
  readonly total: DatabaseCounters = newCounters();
  readonly databases: Map<string, DatabaseCounters> = new Map();
  bugs = 0;
  readonly #options: ServerCountersOptions;
  readonly #others: DatabaseCounters = newCounters();

  constructor(options: ServerCountersOptions) {
    this.#options = options;
  }

  /** Y1. The database is there. */
  database(name: string): DatabaseCounters {
    const known = this.databases.get(name);
    if (known !== undefined) return known;
    if (this.databases.size >= this.#options.settings.metricsDatabasesMax) return this.#others;
    const counters = newCounters();
    this.databases.set(name, counters);
    return counters;
  }

  requestEnded(kind: RequestKind, durationMs: number): void {
    let latencies = this.requests.get(kind);
    if (latencies === undefined) this.requests.set(kind, (latencies = new Latencies()));
    latencies.note(durationMs);
  }

  requestFailed(code: string): void {
    increment(this.requestFailures, code);
  }

  statementEnded(revision: string, database: DatabaseCounters, ended: EndedStatement): void {
    const { durationMs, rowCount, changes, error } = ended;
    this.statements.note(durationMs);
    for (const counters of [this.total, database]) {
      counters.statements++;
      counters.statementMs += durationMs;
      counters.rowsRead += rowCount;
      counters.rowsWritten += changes;
    }
    if (error !== null) this.#statementFailed(database, error);
    const { slowQueryMs } = this.#options.settings;
    if (slowQueryMs > 0 && durationMs >= slowQueryMs) this.#logSlow(revision, ended);
  }

  #statementFailed(database: DatabaseCounters, error: unknown): void {
    const { code, extendedCode } = describeFailure(error);
    increment(this.statementFailures, code);
    const isConflict = extendedCode === "SQLITE_BUSY_SNAPSHOT";
    for (const counters of [this.total, database]) {
      counters.failures++;
      if (isConflict) counters.conflicts++;
    }
  }

  #logSlow(revision: string, { sql, durationMs, rowCount, changes, error }: EndedStatement): void {
    this.#options.log.warn("statement.slow", {
      revision,
      durationMs: Math.round(durationMs * 1000) / 1000,
      rows: rowCount,
      changes,
      ...(error === null ? {} : { code: describeFailure(error).code }),
      sql: shownSql(sql),
    });
  }
}

/** The text of a slow statement, for the log and for spans. */
export function shownSql(sql: string): string {
  return sql.length > SQL_LENGTH_MAX ? `${sql.slice(0, SQL_LENGTH_MAX)}...` : sql;
}

function newCounters(): DatabaseCounters {
  return {
    streams: 0,
    statements: 0,
    statementMs: 0,
    rowsRead: 0,
    rowsWritten: 0,
    failures: 0,
    conflicts: 0,
  };
}

function increment(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
