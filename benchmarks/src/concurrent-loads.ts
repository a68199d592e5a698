/**
 * What the clients of the concurrent benchmarks do. A transaction is a generator of steps, so that the same text is run by drivers
 * that wait for each statement and by drivers that do not.
 */
import { CUSTOMER_TABLE, type Customer, customerValues, INSERT_CUSTOMER } from "./sample-data.ts";

export const CLIENT_COUNTS = [1, 8, 64] as const;
const CLIENTS_MAX: number = Math.max(...CLIENT_COUNTS);
const WAIT_MS = 5;
const WRITES_OF_READ_MOSTLY = 0.05;

export type Step =
  | { readonly kind: "get" | "run"; readonly sql: string; readonly values: readonly unknown[] }
  | { readonly kind: "wait"; readonly ms: number };

export type Row = Readonly<Record<string, unknown>> | undefined;

export interface Transaction {
  readonly writes: boolean;
  /** Called again for each attempt. */
  readonly body: () => Generator<Step, void, Row>;
}

export interface Load {
  readonly item: string;
  readonly title: string;
  /** The client waits within its transactions, and so does the connection that it has. */
  readonly hasWaits: boolean;
  readonly tables: readonly string[];
  next(client: number, random: () => number): Transaction;
  /** Each gives one number; their sum grows by one with each transaction that wrote. */
  readonly proofs: readonly string[];
}

/** Keys stay exact numbers. */
const KEY_MAX: number = 2 ** 52;

const GET_VISITS = "SELECT visits FROM customer WHERE id = ?";
const ADD_VISIT = "UPDATE customer SET visits = visits + 1 WHERE id = ?";
const SET_VISITS = "UPDATE customer SET visits = ? WHERE id = ?";
const SUM_VISITS = "SELECT SUM(visits) FROM customer";

function get(sql: string, ...values: unknown[]): Step {
  return { kind: "get", sql, values };
}

function run(sql: string, ...values: unknown[]): Step {
  return { kind: "run", sql, values };
}

/** `customers` fill the large table; they are what is inserted as well. */
export function loads(customers: readonly Customer[]): Load[] {
  const anyId = (random: () => number): number => 1 + Math.floor(random() * customers.length);
  const anyValues = (random: () => number): readonly unknown[] =>
    customerValues(customers[anyId(random) - 1]!).slice(1);
  const updates = (random: () => number): Transaction => {
    const id = anyId(random);
    return {
      writes: true,
      *body() {
        yield run(ADD_VISIT, id);
      },
    };
  };
  const inserts = (sql: string, values: readonly unknown[]): Transaction => ({
    writes: true,
    *body() {
      yield run(sql, ...values);
    },
  });
  const anyRowid = (random: () => number): number => Math.floor(random() * KEY_MAX);
  return [
    {
      item: "concurrent-update",
      title: `Update of a random row of ${customers.length.toLocaleString("en")}`,
      hasWaits: false,
      tables: [],
      next: (_, random) => updates(random),
      proofs: [SUM_VISITS],
    },
    {
      item: "concurrent-insert-one",
      title: "Insert at the end of one table",
      hasWaits: false,
      tables: [tableNamed("event")],
      next: (_, random) => inserts(insertInto("event"), [null, ...anyValues(random)]),
      proofs: ["SELECT COUNT(*) FROM event"],
    },
    {
      item: "concurrent-insert-random",
      title: "Insert into one table, random keys",
      hasWaits: false,
      // Filled, so that the keys that are inserted meet some thousand pages.
      tables: [
        tableNamed("event"),
        `INSERT INTO event SELECT abs(random()) % ${KEY_MAX}, name, email, region, amount, visits FROM customer`,
      ],
      next: (_, random) => inserts(insertInto("event"), [anyRowid(random), ...anyValues(random)]),
      proofs: ["SELECT COUNT(*) FROM event"],
    },
    {
      item: "concurrent-insert-many",
      title: "Insert into a table for each client",
      hasWaits: false,
      tables: Array.from({ length: CLIENTS_MAX }, (_, client) => tableNamed(`event${client}`)),
      next: (client, random) => inserts(insertInto(`event${client}`), [null, ...anyValues(random)]),
      proofs: Array.from(
        { length: CLIENTS_MAX },
        (_, client) => `SELECT COUNT(*) FROM event${client}`,
      ),
    },
    {
      item: "concurrent-read",
      title: "95 % reads of a random row, 5 % updates",
      hasWaits: false,
      tables: [],
      next: (_, random) => {
        if (random() < WRITES_OF_READ_MOSTLY) return updates(random);
        const id = anyId(random);
        return {
          writes: false,
          *body() {
            yield get(GET_VISITS, id);
          },
        };
      },
      proofs: [SUM_VISITS],
    },
    {
      item: "concurrent-interactive",
      title: `Read, wait ${WAIT_MS} ms, update, wait ${WAIT_MS} ms`,
      hasWaits: true,
      tables: [],
      next: (_, random) => {
        const id = anyId(random);
        return {
          writes: true,
          *body() {
            const row = yield get(GET_VISITS, id);
            yield { kind: "wait", ms: WAIT_MS };
            // From what was read: an update that is lost is missing in the sum.
            yield run(SET_VISITS, Number(row?.["visits"]) + 1, id);
            yield { kind: "wait", ms: WAIT_MS };
          },
        };
      },
      proofs: [SUM_VISITS],
    },
  ];
}

function tableNamed(name: string): string {
  return CUSTOMER_TABLE.replace("customer", name);
}

function insertInto(name: string): string {
  return INSERT_CUSTOMER.replace("customer", name);
}
