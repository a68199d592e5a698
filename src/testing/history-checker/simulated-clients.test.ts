/** Stores with a known isolation level, many clients at once: the checker says of each what it is, and no worse. */
import { describe, expect, test } from "vitest";
import { Random } from "../random.ts";
import type { AnomalyKind, Isolation } from "./anomaly.ts";
import { checkHistory, type HistoryReport } from "./check-history.ts";
import type { History } from "./history.ts";
import { renderReport } from "./report.ts";
import { runWorkload } from "./run-workload.ts";
import { SimulatedTransactionStore, type SimulatedIsolation } from "./simulated-clients.ts";
import { LIST_APPEND, REGISTERS, SCANS, Workload, type WorkloadOptions } from "./workload.ts";

const MIXES: readonly (readonly [string, WorkloadOptions["mix"]])[] = [
  ["lists", LIST_APPEND],
  ["registers", REGISTERS],
  ["scans", { ...SCANS, append: 1, "read-list": 1 }],
  ["everything", { ...LIST_APPEND, ...REGISTERS, ...SCANS }],
];

async function run(
  isolation: SimulatedIsolation,
  seed: number,
  mix: WorkloadOptions["mix"],
  failing = false,
): Promise<History> {
  const random = new Random(seed);
  const store = new SimulatedTransactionStore({
    isolation,
    random: random.fork(),
    ...(failing ? { failures: 0.1, lostAnswers: 0.1 } : {}),
  });
  const distribution = seed % 2 === 0 ? "hot" : "uniform";
  return runWorkload({
    random,
    workload: new Workload(random.fork(), { mix, distribution, keyCount: 5 }),
    clientCount: 8,
    transactionCount: 400,
    connect: () => store.client(),
    think: async () => {
      for (let turns = random.integer(0, 6); turns > 0; turns--) await Promise.resolve();
    },
  });
}

async function kindsShown(
  isolation: SimulatedIsolation,
  promised: Isolation,
  mix: WorkloadOptions["mix"],
  failing = false,
): Promise<Set<AnomalyKind>> {
  const kinds = new Set<AnomalyKind>();
  for (let seed = 1; seed <= 6; seed++) {
    const history = await run(isolation, seed, mix, failing);
    const report: HistoryReport = checkHistory(history, { isolation: promised });
    expect(report.ok, `seed ${seed}\n${renderReport(report, history)}`).toBe(true);
    for (const kind of Object.keys(report.counts)) kinds.add(kind as AnomalyKind);
  }
  return kinds;
}

describe.each(MIXES)("%s", (name, mix) => {
  test.each([false, true])("a serializable store passes, failing: %s", async (failing) => {
    expect([...(await kindsShown("serializable", "strict-serializable", mix, failing))]).toEqual(
      [],
    );
  });

  test.each([false, true])(
    "snapshot isolation shows write skew and nothing worse, failing: %s",
    async (failing) => {
      const kinds = await kindsShown("snapshot-isolation", "snapshot-isolation", mix, failing);
      expect([...kinds]).toContain(name === "scans" ? "G2" : "G2-item");
    },
  );

  test("read committed shows more, and nothing of what it forbids", async () => {
    const kinds = await kindsShown("read-committed", "read-committed", mix);
    expect([...kinds]).toContain("G-single");
    if (name === "registers") expect([...kinds]).toContain("lost-update");
  });

  test("a store that shows uncommitted writes is caught at the lowest level", async () => {
    const history = await run("read-uncommitted", 1, mix, true);
    const report = checkHistory(history, { isolation: "read-committed" });
    expect(report.ok).toBe(false);
    expect(Object.keys(report.counts)).toContain("G1a");
  });
});

test("clients do run at once, and the same seed runs the same again", async () => {
  const history = await run("snapshot-isolation", 3, LIST_APPEND, true);
  const { transactions } = history;
  const overlapping = transactions.filter((transaction, number) =>
    transactions.some(
      (other, at) =>
        at !== number &&
        other.invoked < transaction.completed &&
        transaction.invoked < other.completed,
    ),
  );
  expect(overlapping.length).toBeGreaterThan(300);
  expect(new Set(transactions.map(({ status }) => status)).size).toBe(3);
  expect(await run("snapshot-isolation", 3, LIST_APPEND, true)).toEqual(history);
});
