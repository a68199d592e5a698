/** Right histories must pass, whatever they are; what is then made wrong in them must be found. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../random.ts";
import { checkHistory } from "./check-history.ts";
import type { History, Operation, Transaction } from "./history.ts";
import { renderReport } from "./report.ts";
import { makeSerialHistory } from "./serial-history.ts";
import { LIST_APPEND, REGISTERS, SCANS, Workload, type WorkloadOptions } from "./workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

interface Shape {
  readonly seed: number;
  readonly transactionCount: number;
  readonly clientCount: number;
  readonly keyCount: number;
  readonly isHot: boolean;
  readonly hasReads: boolean;
}

const SHAPES: fc.Arbitrary<Shape> = fc.record({
  seed: fc.nat(),
  transactionCount: fc.integer({ min: 1, max: 120 }),
  clientCount: fc.integer({ min: 1, max: 12 }),
  keyCount: fc.integer({ min: 1, max: 6 }),
  isHot: fc.boolean(),
  hasReads: fc.boolean(),
});

const ALL: WorkloadOptions["mix"] = { ...LIST_APPEND, ...REGISTERS, ...SCANS };

/** Without `hasReads` the final ones are left out, so that much of what was written is never seen. */
function serialHistory(shape: Shape, mix: WorkloadOptions["mix"], unknown = 0.1): History {
  const { transactionCount, clientCount, keyCount } = shape;
  const random = new Random(shape.seed);
  const distribution = shape.isHot ? "hot" : "uniform";
  const workload = new Workload(random.fork(), {
    mix,
    keyCount,
    distribution,
    writesPerKeyMax: 10,
  });
  const { transactions } = makeSerialHistory({
    random,
    workload,
    transactionCount,
    clientCount,
    failed: 0.1,
    unknown,
  });
  return { transactions: transactions.filter(({ final }) => shape.hasReads || final !== true) };
}

test("every serial history passes, with failures, unknown outcomes, with and without final reads", () => {
  fc.assert(
    fc.property(SHAPES, (shape) => {
      const history = serialHistory(shape, ALL);
      const report = checkHistory(history);
      expect(report.counts, renderReport(report, history)).toEqual({});
    }),
    { numRuns: isLong ? 1000 : 80 },
  );
});

test("it passes in any order of the transactions, and with the order of registers given", () => {
  fc.assert(
    fc.property(SHAPES, (shape) => {
      const { transactions } = serialHistory({ ...shape, hasReads: true }, ALL, 0);
      const registerOrders = new Map<string, number[]>();
      for (const { status, operations } of transactions) {
        for (const operation of operations) {
          if (operation.kind !== "write" || status !== "ok") continue;
          const order = registerOrders.get(operation.key) ?? [];
          registerOrders.set(operation.key, [...order, operation.value]);
        }
      }
      const shuffled = new Random(shape.seed).shuffle(transactions.slice());
      const history = { transactions: shuffled, registerOrders };
      const report = checkHistory(history);
      expect(report.counts, renderReport(report, history)).toEqual({});
    }),
    { numRuns: isLong ? 500 : 30 },
  );
});

test("thousands of transactions by 32 clients are checked as a whole", () => {
  const random = new Random(1);
  const workload = new Workload(random.fork(), { mix: ALL, keyCount: 50, operationsMax: 12 });
  const transactionCount = isLong ? 20_000 : 4000;
  const history = makeSerialHistory({ random, workload, transactionCount, clientCount: 32 });
  const report = checkHistory(history);
  expect(report.ok).toBe(true);
  expect(report.operationCount).toBeGreaterThan(6 * transactionCount);
  const stale = changeOne(history, random, (operation, { final }) =>
    operation.kind === "read-list" && operation.values.length > 5 && final !== true
      ? { ...operation, values: [] }
      : null,
  );
  expect(checkHistory(stale!).ok).toBe(false);
});

/** Changes one operation of a committed transaction for which `change` gives something else; null when there is none. */
function changeOne(
  { transactions }: History,
  random: Random,
  change: (operation: Operation, transaction: Transaction) => Operation | null,
): History | null {
  const places = transactions.flatMap((transaction, number) =>
    transaction.status === "ok"
      ? transaction.operations.flatMap((operation, at) =>
          change(operation, transaction) === null ? [] : [[number, at] as const],
        )
      : [],
  );
  if (places.length === 0) return null;
  const [number, at] = random.pick(places);
  const changed = transactions.slice();
  const transaction = changed[number]!;
  const operations = transaction.operations.slice();
  operations[at] = change(operations[at]!, transaction)!;
  changed[number] = { ...transaction, operations };
  return { transactions: changed };
}

function everywhere(
  { transactions }: History,
  change: (operation: Operation) => Operation,
): History {
  return {
    transactions: transactions.map((transaction) => ({
      ...transaction,
      operations: transaction.operations.map(change),
    })),
  };
}

type Mutation = (history: History, random: Random) => History | null;

/**
 * With the share that must be found: 1 for what is always an anomaly. The others are none when the transaction may as well
 * have run a little earlier, or what it lacks may never have taken effect.
 */
const MUTATIONS: readonly (readonly [string, number, Mutation])[] = [
  [
    "a failed transaction was seen",
    1,
    (history, random) => {
      const seen = new Set<number>();
      for (const { status, operations, final } of history.transactions) {
        if (status !== "ok" || final !== true) continue;
        for (const operation of operations) {
          if (operation.kind === "read-list") operation.values.forEach((value) => seen.add(value));
        }
      }
      const numbers = [...history.transactions.keys()].filter((number) =>
        history.transactions[number]!.operations.some(
          (operation) => operation.kind === "append" && seen.has(operation.value),
        ),
      );
      if (numbers.length === 0) return null;
      const transactions = history.transactions.slice();
      const number = random.pick(numbers);
      transactions[number] = { ...transactions[number]!, status: "failed" };
      return { transactions };
    },
  ],
  [
    "an acknowledged append is gone",
    1,
    (history, random) => {
      const values = history.transactions
        .filter(({ status }) => status === "ok")
        .flatMap(({ operations }) => operations)
        .filter((operation) => operation.kind === "append")
        .map(({ value }) => value);
      if (values.length === 0) return null;
      const lost = random.pick(values);
      return everywhere(history, (operation) =>
        operation.kind === "read-list"
          ? { ...operation, values: operation.values.filter((value) => value !== lost) }
          : operation,
      );
    },
  ],
  [
    "a value shows twice",
    1,
    (history, random) =>
      changeOne(history, random, (operation) =>
        operation.kind === "read-list" && operation.values.length > 0
          ? { ...operation, values: [...operation.values, operation.values[0]!] }
          : null,
      ),
  ],
  [
    "a read has another order",
    0.9,
    (history, random) =>
      changeOne(history, random, (operation) =>
        operation.kind === "read-list" && operation.values.length > 1
          ? { ...operation, values: operation.values.toReversed() }
          : null,
      ),
  ],
  [
    "a final read lacks the last append",
    0.9,
    (history, random) =>
      changeOne(history, random, (operation, { final }) =>
        operation.kind === "read-list" && operation.values.length > 0 && final === true
          ? { ...operation, values: operation.values.slice(0, -1) }
          : null,
      ),
  ],
  [
    "a read lacks the last half of a list",
    0.85,
    (history, random) =>
      changeOne(history, random, (operation) =>
        operation.kind === "read-list" && operation.values.length > 0
          ? { ...operation, values: operation.values.slice(0, operation.values.length >> 1) }
          : null,
      ),
  ],
  [
    "a register reads as never written",
    0.6,
    (history, random) =>
      changeOne(history, random, (operation) =>
        operation.kind === "read-register" && operation.value !== null
          ? { ...operation, value: null }
          : null,
      ),
  ],
  [
    "a scan lacks a row",
    0.3,
    (history, random) =>
      changeOne(history, random, (operation) =>
        operation.kind === "scan" && operation.keys.length > 0
          ? { ...operation, keys: operation.keys.slice(1) }
          : null,
      ),
  ],
  [
    "a scan shows a row that is not there yet",
    0.6,
    (history, random) => {
      const keys = history.transactions.flatMap(({ operations, status }) =>
        operations.flatMap((operation) =>
          operation.kind === "insert" && status === "ok" ? [operation.key] : [],
        ),
      );
      return changeOne(history, random, (operation) => {
        if (operation.kind !== "scan") return null;
        const later = keys.findLast(
          (key) => key.startsWith(operation.prefix) && !operation.keys.includes(key),
        );
        return later === undefined ? null : { ...operation, keys: [...operation.keys, later] };
      });
    },
  ],
];

describe("what is made wrong is found", () => {
  test.each(MUTATIONS)("%s: at least a share of %d", (name, share, mutate) => {
    let tried = 0;
    let found = 0;
    for (let seed = 1; seed <= 120; seed++) {
      const shape = {
        seed,
        transactionCount: 100,
        clientCount: 4,
        keyCount: 3,
        isHot: seed % 2 === 0,
        hasReads: true,
      };
      const history = mutate(serialHistory(shape, ALL), new Random(seed));
      if (history === null) continue;
      tried++;
      if (!checkHistory(history).ok) found++;
      else if (share === 1) expect.fail(`${name}: not found with seed ${seed}`);
    }
    expect(tried).toBeGreaterThan(100);
    expect(found / tried).toBeGreaterThanOrEqual(share);
  });
});
