/**
 * Many clients on one database: how many transactions a second become durable, how long one takes, how often one is run again. Each
 * side is held to what it has acknowledged: the tables are summed up at its end.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { CLIENT_COUNTS, type Load, loads } from "./concurrent-loads.ts";
import {
  awaitedSide,
  type Client,
  type ConcurrentSide,
  loadTurso,
  sqliteSide,
  statementSide,
  synchronousSide,
  transactSide,
  tursoSide,
} from "./concurrent-sides.ts";
import { benchTracking } from "./concurrent-tracking.ts";
import { alternate, median, type ResultRow, type Sample } from "./measure.ts";
import {
  CUSTOMER_TABLE,
  type Customer,
  customers,
  customerValues,
  INSERT_CUSTOMER,
  seededRandom,
} from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import { inTransaction, type Sides } from "./sides.ts";

const BOUGH_SIDES = [
  "store.transact",
  "awaited connections",
  "awaited, no BEGIN",
  "synchronous, durably",
] as const;
/** Ratios to better-sqlite3, by item. */
const WANTED: ReadonlyMap<string, number> = new Map([
  ["concurrent-update-64", 15],
  ["concurrent-insert-many-64", 15],
  ["concurrent-interactive-64", 20],
]);
/** Conflicts for each commit. */
const WANTED_CONFLICTS: ReadonlyMap<string, number> = new Map([
  ["concurrent-insert-many-8", 0.01],
  ["concurrent-insert-many-64", 0.01],
]);

type OpenSide = (
  sides: Sides,
  seed: string,
  load: Load,
) => Promise<ConcurrentSide | null> | ConcurrentSide;

export async function benchConcurrent(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const data = customers(settings.isQuick ? 20_000 : 200_000);
  const wanted = loads(data).filter(({ item }) =>
    CLIENT_COUNTS.some((count) => settings.includes(`${item}-${count}`)),
  );
  const rows: ResultRow[] = [];
  if (wanted.length > 0) {
    const opens: OpenSide[] = [
      sqliteSide,
      transactSide,
      awaitedSide,
      statementSide,
      synchronousSide,
    ];
    const turso = await loadTurso(sides.workspace.root);
    if (turso !== null) opens.push((...given) => tursoSide(turso, ...given));
    const seed = seedFile(sides, data);
    for (const load of wanted)
      rows.push(...(await benchLoad(load, { sides, settings, opens, seed })));
  }
  rows.push(...(await benchTracking(sides, settings, data)));
  return rows;
}

function seedFile(sides: Sides, data: readonly Customer[]): string {
  const file = sides.workspace.path("seed.db");
  const sqlite = sides.sqlite("off", file);
  sqlite.exec(CUSTOMER_TABLE);
  const insert = sqlite.prepare(INSERT_CUSTOMER);
  inTransaction(sqlite, () => {
    for (const row of data) insert.run(...customerValues(row));
  });
  sqlite.pragma("journal_mode = DELETE");
  sqlite.close();
  return file;
}

async function benchLoad(
  load: Load,
  given: { sides: Sides; settings: Settings; opens: readonly OpenSide[]; seed: string },
): Promise<ResultRow[]> {
  const { settings, seed } = given;
  const rows: ResultRow[] = [];
  const runners: Runner[] = [];
  try {
    for (const open of given.opens) {
      const runner = await Runner.open(() => open(given.sides, seed, load), load);
      if (runner !== null) runners.push(runner);
    }
    for (const count of CLIENT_COUNTS) {
      const item = `${load.item}-${count}`;
      if (!settings.includes(item)) continue;
      const results = await measureSides(runners, count, settings);
      for (const row of rowsOf(
        item,
        `${load.title}, ${count} ${count === 1 ? "client" : "clients"}`,
        results,
      )) {
        rows.push(row);
        settings.show(row);
      }
    }
    for (const runner of runners) await runner.prove();
  } finally {
    for (const runner of runners) await runner.close();
  }
  return rows;
}

interface Figures {
  readonly rates: readonly number[];
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  /** Attempts that did not commit, for each commit. */
  readonly conflicts: number;
  /** 99th percentile of how far apart a timer of 1 ms fires, in ms. */
  readonly loopDelay: number;
}

async function measureSides(
  runners: readonly Runner[],
  clients: number,
  settings: Settings,
): Promise<Map<string, Figures>> {
  const forMs = settings.isQuick ? 200 : 600;
  for (const runner of runners) runner.forget();
  const rates = await alternate(
    runners.map((runner) => () => runner.round(clients, forMs)),
    settings.rounds,
    () => runners.forEach((runner) => runner.forget()),
  );
  const results = new Map<string, Figures>();
  for (const [index, runner] of runners.entries())
    if (runner.failure === null) results.set(runner.name, runner.figures(rates[index]!));
  return results;
}

/** One side, its clients, and what it has acknowledged. */
class Runner {
  readonly #side: ConcurrentSide;
  readonly #load: Load;
  readonly #random = seededRandom(5);
  readonly #clients: Client[] = [];
  readonly #before: number;
  #acknowledged = 0;
  #times: number[] = [];
  #attempts = 0;
  /** Of each round. */
  #delays: number[] = [];
  failure: unknown = null;

  private constructor(side: ConcurrentSide, load: Load, before: number) {
    this.#side = side;
    this.#load = load;
    this.#before = before;
  }

  /** Null for a side that has no part in this load; with a word to people for one that fails. */
  static async open(
    open: () => Promise<ConcurrentSide | null> | ConcurrentSide,
    load: Load,
  ): Promise<Runner | null> {
    try {
      const side = await open();
      if (side === null) return null;
      return new Runner(side, load, await proofOf(side, load));
    } catch (error) {
      process.stderr.write(`A side is left out of "${load.title}": ${String(error)}\n`);
      return null;
    }
  }

  get name(): string {
    return this.#side.name;
  }

  forget(): void {
    this.#times = [];
    this.#attempts = 0;
    this.#delays = [];
  }

  async round(count: number, forMs: number): Promise<Sample> {
    if (this.failure !== null) return { operations: NaN, ms: 1 };
    try {
      while (this.#clients.length < count) this.#clients.push(await this.#side.client());
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const before = this.#times.length;
      const start = performance.now();
      await Promise.all(
        this.#clients
          .slice(0, count)
          .map((client, index) => this.#loop(client, index, start + forMs)),
      );
      const ms = performance.now() - start;
      delay.disable();
      this.#delays.push(delay.percentile(99) / 1e6);
      return { operations: this.#times.length - before, ms };
    } catch (error) {
      if (this.name !== "turso") throw error;
      this.failure = error;
      process.stderr.write(`turso is left out of "${this.#load.title}": ${String(error)}\n`);
      return { operations: NaN, ms: 1 };
    }
  }

  async #loop(client: Client, index: number, until: number): Promise<void> {
    for (let now = performance.now(); now < until;) {
      const transaction = this.#load.next(index, this.#random);
      const attempts = await client(transaction);
      this.#attempts += attempts;
      if (transaction.writes) this.#acknowledged++;
      const after = performance.now();
      this.#times.push(after - now);
      now = after;
    }
  }

  figures(rates: readonly number[]): Figures {
    const times = this.#times.sort((left, right) => left - right);
    const at = (fraction: number): number => times[Math.floor(times.length * fraction)] ?? NaN;
    return {
      rates,
      rate: median(rates),
      p50: at(0.5),
      p99: at(0.99),
      conflicts: (this.#attempts - times.length) / times.length,
      loopDelay: median(this.#delays),
    };
  }

  /** Throws unless the tables hold what was acknowledged, no more and no less. */
  async prove(): Promise<void> {
    if (this.failure !== null) return;
    const found = (await proofOf(this.#side, this.#load)) - this.#before;
    if (found === this.#acknowledged) return;
    const what = `${this.name}, "${this.#load.title}": ${this.#acknowledged} commits were acknowledged, the tables hold ${found}`;
    if (this.name !== "turso") throw new Error(what);
    process.stderr.write(`THE FIGURES OF ${what}\n`);
  }

  async close(): Promise<void> {
    try {
      await this.#side.close();
    } catch (error) {
      if (this.name !== "turso") throw error;
    }
  }
}

async function proofOf(side: ConcurrentSide, { proofs }: Load): Promise<number> {
  let sum = 0;
  for (const sql of proofs) sum += await side.number(sql);
  return sum;
}

/** A row for each way to use bough, beside better-sqlite3, and one beside Turso. */
function rowsOf(item: string, title: string, results: ReadonlyMap<string, Figures>): ResultRow[] {
  const rows: ResultRow[] = [];
  const sqlite = results.get("better-sqlite3")!;
  const turso = results.get("turso");
  const wanted = WANTED.get(item) ?? null;
  for (const name of BOUGH_SIDES) {
    const figures = results.get(name);
    if (figures === undefined) continue;
    const isFirst = rows.length === 0;
    rows.push(
      rowOf(
        {
          item: isFirst ? item : `${item}-${name.replaceAll(/[ ,.]+/g, "-").toLowerCase()}`,
          title: isFirst ? `${title}: ${name}` : `  ${name}`,
        },
        { figures, baseline: sqlite, baselineName: "better-sqlite3", wanted },
      ),
    );
  }
  if (turso !== undefined) {
    const figures = results.get("store.transact")!;
    rows.push(
      rowOf(
        { item: `${item}-turso`, title: "  store.transact" },
        { figures, baseline: turso, baselineName: "turso", wanted: null },
      ),
    );
  }
  const conflictsMax = WANTED_CONFLICTS.get(item);
  if (conflictsMax !== undefined) rows.push(conflictRow(item, results, conflictsMax));
  return rows;
}

function rowOf(
  row: { readonly item: string; readonly title: string },
  given: {
    readonly figures: Figures;
    readonly baseline: Figures;
    readonly baselineName: string;
    readonly wanted: number | null;
  },
): ResultRow {
  const { figures, baseline, baselineName, wanted } = given;
  const ratio = figures.rate / baseline.rate;
  return {
    ...row,
    unit: "commits/s",
    bough: figures.rate,
    baseline: baseline.rate,
    baselineName,
    ratio,
    wanted: wanted === null ? "" : `${wanted}x`,
    isMet: wanted === null ? null : ratio >= wanted,
    rounds: { bough: figures.rates, baseline: baseline.rates },
    detail: detailOf(figures, baseline),
    figures: { bough: withoutRates(figures), baseline: withoutRates(baseline) },
  };
}

function conflictRow(item: string, results: ReadonlyMap<string, Figures>, max: number): ResultRow {
  const conflicts = ["store.transact", "awaited connections"].map(
    (name) => results.get(name)!.conflicts,
  );
  const percent = 100 * Math.max(...conflicts);
  return {
    item: `${item}-conflicts`,
    title: "  conflicts for each commit, store.transact or awaited",
    unit: "%",
    bough: percent,
    baseline: null,
    baselineName: "",
    ratio: null,
    wanted: `< ${100 * max}`,
    isMet: percent < 100 * max,
    rounds: { bough: [], baseline: [] },
  };
}

function withoutRates({ rates: _, ...rest }: Figures): Readonly<Record<string, number>> {
  return rest;
}

function detailOf(figures: Figures, baseline: Figures): string {
  const both = (value: (of: Figures) => string): string => `${value(figures)} | ${value(baseline)}`;
  const ms = (value: number): string => value.toFixed(value < 10 ? 2 : 0);
  return [
    `p50 ${both(({ p50 }) => ms(p50))} ms`,
    `p99 ${both(({ p99 }) => ms(p99))} ms`,
    `conflicts ${both(({ conflicts }) => (100 * conflicts).toFixed(1))} %`,
    `loop ${both(({ loopDelay }) => ms(loopDelay))} ms`,
  ].join(", ");
}
