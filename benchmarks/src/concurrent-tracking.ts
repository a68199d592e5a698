/** What BEGIN CONCURRENT costs where nobody is met: beside a plain transaction that does the same, in the same store. */
import { alternate, median, type ResultRow, timed, timedAsync } from "./measure.ts";
import {
  CUSTOMER_TABLE,
  type Customer,
  customerValues,
  INSERT_CUSTOMER,
  seededRandom,
} from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import { inTransaction, type Sides } from "./sides.ts";
import type { Store } from "../../src/store/store.ts";
import type { Durability } from "../../src/transaction/commit-pipeline.ts";

/** Of the time of a plain one. */
const WANTED_TIME = 1.3;
const ADD_VISIT = "UPDATE customer SET visits = visits + 1 WHERE id = ?";

interface Length {
  readonly name: string;
  readonly title: string;
  /** Rows that one transaction updates. */
  readonly updates: number;
  /** Transactions in a round. */
  readonly count: Readonly<Record<"full" | "off", number>>;
}

const LENGTHS: readonly Length[] = [
  { name: "short", title: "1 row", updates: 1, count: { full: 1000, off: 10_000 } },
  { name: "long", title: "500 rows", updates: 500, count: { full: 20, off: 40 } },
];

type Mode = "concurrent" | "plain";

export async function benchTracking(
  sides: Sides,
  settings: Settings,
  data: readonly Customer[],
): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  for (const durability of ["full", "off"] as const) {
    const named = (kind: string, { name }: Length): string =>
      `tracking-${kind}${name}-${durability === "full" ? "durable" : "off"}`;
    if (
      !LENGTHS.some((length) =>
        ["", "awaited-"].some((kind) => settings.includes(named(kind, length))),
      )
    )
      continue;
    const store = seededStore(sides, durability, data);
    for (const length of LENGTHS) {
      const what = `${length.title} a transaction, ${durability === "full" ? "durable" : "without sync"}`;
      const count = Math.ceil(length.count[durability] / (settings.isQuick ? 5 : 1));
      for (const kind of ["", "awaited-"] as const) {
        const item = named(kind, length);
        if (!settings.includes(item)) continue;
        const title = `BEGIN CONCURRENT beside BEGIN, ${what}${kind === "" ? "" : ", awaited"}`;
        const make = kind === "" ? synchronous : awaited;
        const run = await make(store, { updates: length.updates, count, rows: data.length });
        const row = await compareModes({ item, title }, run, settings);
        rows.push(row);
        settings.show(row);
      }
    }
    await store.closeAsync();
  }
  return rows;
}

function seededStore(sides: Sides, durability: Durability, data: readonly Customer[]): Store {
  const store = sides.store(durability);
  for (const mode of ["concurrent", "plain"] as const) {
    store.createDatabase(mode);
    const connection = store.connect(mode);
    connection.exec(CUSTOMER_TABLE);
    const insert = connection.prepare(INSERT_CUSTOMER);
    inTransaction(connection, () => {
      for (const row of data) insert.run(...customerValues(row));
    });
    connection.close();
  }
  store.checkpoint();
  return store;
}

interface Shape {
  readonly updates: number;
  readonly count: number;
  readonly rows: number;
}

type RunMode = (mode: Mode) => Promise<{ operations: number; ms: number }>;

function idsOf({ rows }: Shape): () => number {
  const random = seededRandom(6);
  return () => 1 + Math.floor(random() * rows);
}

function synchronous(store: Store, shape: Shape): Promise<RunMode> {
  const sides = { concurrent: side("concurrent"), plain: side("plain") };
  function side(mode: Mode): () => void {
    const connection = store.connect(mode);
    const update = connection.prepare(ADD_VISIT);
    const nextId = idsOf(shape);
    const transaction = connection.transaction(() => {
      for (let index = 0; index < shape.updates; index++) update.run(nextId());
    });
    return mode === "concurrent" ? transaction.concurrent : transaction.immediate;
  }
  return Promise.resolve((mode) =>
    Promise.resolve(
      timed(shape.count, () => {
        for (let index = 0; index < shape.count; index++) sides[mode]();
      }),
    ),
  );
}

async function awaited(store: Store, shape: Shape): Promise<RunMode> {
  const side = async (mode: Mode): Promise<() => Promise<void>> => {
    const connection = await store.open(mode);
    const update = await connection.prepare(ADD_VISIT);
    const nextId = idsOf(shape);
    const transaction = async (): Promise<void> => {
      for (let index = 0; index < shape.updates; index++) await update.run(nextId());
    };
    const options = { mode: mode === "concurrent" ? "concurrent" : "immediate" } as const;
    return () => connection.transaction(transaction, options);
  };
  const sides = { concurrent: await side("concurrent"), plain: await side("plain") };
  return (mode) =>
    timedAsync(shape.count, async () => {
      for (let index = 0; index < shape.count; index++) await sides[mode]();
    });
}

async function compareModes(
  row: { readonly item: string; readonly title: string },
  run: RunMode,
  { rounds }: Settings,
): Promise<ResultRow> {
  const rates = await alternate([() => run("concurrent"), () => run("plain")], rounds);
  const [concurrent = [], plain = []] = rates;
  const ratio = median(concurrent) / median(plain);
  return {
    ...row,
    unit: "commits/s",
    bough: median(concurrent),
    baseline: median(plain),
    baselineName: "plain",
    ratio,
    wanted: `${(1 / WANTED_TIME).toFixed(2)}x`,
    isMet: ratio >= 1 / WANTED_TIME,
    rounds: { bough: concurrent, baseline: plain },
    detail: `${(1 / ratio).toFixed(2)}x the time, wanted at most ${WANTED_TIME}x`,
  };
}
