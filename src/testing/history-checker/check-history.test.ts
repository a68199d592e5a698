/** Each anomaly in minimal histories that must be found, beside neighbours that must pass. */
import { describe, expect, test } from "vitest";
import type { AnomalyKind } from "./anomaly.ts";
import { checkHistory } from "./check-history.ts";
import type { History, Operation, OutcomeStatus, Transaction } from "./history.ts";
import { renderReport } from "./report.ts";

/**
 * Operations in short: "a x 1" append, "r x 1,2" read a list, "w x 1" write, "g x 1" read a register ("g x -": null),
 * "i k" insert, "d k" delete, found, "m k" delete, missing, "s p k1,k2" scan.
 */
function operationsOf(text: string): Operation[] {
  return text
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part): Operation => {
      const [kind = "", key = "", rest = ""] = part.split(" ");
      const list = rest === "" ? [] : rest.split(",");
      switch (kind) {
        case "a":
          return { kind: "append", key, value: Number(rest) };
        case "r":
          return { kind: "read-list", key, values: list.map(Number) };
        case "w":
          return { kind: "write", key, value: Number(rest) };
        case "g":
          return { kind: "read-register", key, value: rest === "-" ? null : Number(rest) };
        case "i":
          return { kind: "insert", key };
        case "d":
          return { kind: "delete", key, found: true };
        case "m":
          return { kind: "delete", key, found: false };
        case "s":
          return { kind: "scan", prefix: key, keys: list };
        default:
          throw new Error(`Unknown operation "${part}"`);
      }
    });
}

const STATUS: { readonly [mark: string]: OutcomeStatus } = { "!": "failed", "?": "unknown" };

/**
 * One line per transaction, all at the same time, each by a client of its own. "!" before it: failed, "?": unknown, "=":
 * a final one. "@2 5-7": by client 2, from 5 to 7.
 */
function historyOf(...lines: string[]): History {
  const transactions = lines.map((line, number): Transaction => {
    const match = /^([!?=]?)(?:@(\d+) (\d+)-(\d+))? ?(.*)$/.exec(line)!;
    const [, mark = "", client, invoked, completed, text = ""] = match;
    return {
      client: client === undefined ? 100 + number : Number(client),
      invoked: invoked === undefined ? (mark === "=" ? 300 : 0) : Number(invoked),
      completed: completed === undefined ? (mark === "=" ? 400 : 200) : Number(completed),
      status: STATUS[mark] ?? "ok",
      operations: operationsOf(text),
      ...(mark === "=" ? { final: true } : {}),
    };
  });
  return { transactions };
}

function kindsOf(history: History): AnomalyKind[] {
  return Object.keys(checkHistory(history).counts).sort() as AnomalyKind[];
}

describe.each<[AnomalyKind, string[][]]>([
  [
    "G0",
    [
      ["a x 1; a y 1", "a x 2; a y 2", "= r x 1,2; r y 2,1"],
      ["a x 1; a y 1", "a x 2; a z 2", "a y 3; a z 3", "= r x 1,2; r z 2,3; r y 3,1"],
    ],
  ],
  [
    "G1a",
    [
      ["! a x 1", "r x 1"],
      ["! w x 1", "g x 1"],
      ["! i k1", "s k k1"],
      ["! a x 1", "? a x 2", "r x 1,2"],
    ],
  ],
  [
    "G1b",
    [
      ["a x 1; a x 2", "r x 1"],
      ["w x 1; w x 2", "g x 1"],
      ["i k1; d k1", "s k k1"],
    ],
  ],
  [
    "G1c",
    [
      ["a x 1; r y 2", "a y 2; r x 1"],
      ["w x 1; g y 2", "w y 2; g x 1"],
      ["i k1; s j j1", "i j1; s k k1"],
    ],
  ],
  [
    "G-single",
    [
      ["a x 1; a y 1", "r x 1; r y", "r x 1; r y 1"],
      ["w x 1; w y 1", "g x 1; g y -", "g x 1"],
      ["a x 1", "r x; r x 1", "= r x 1"],
      ["i k1; i k2", "s k k1", "r z"],
    ],
  ],
  [
    "G2-item",
    [
      ["r x; r y; a x 1", "r x; r y; a y 2", "= r x 1; r y 2"],
      ["g x -; g y -; w x 1", "g x -; g y -; w y 2"],
      ["r x; a y 1", "r y; a z 2", "r z; a x 3"],
      ["i k1; i k2", "s k k1,k2; d k1", "s k k1,k2; d k2"],
    ],
  ],
  [
    "G2",
    [
      ["s k; i k1", "s k; i k2"],
      ["s k; a x 1", "r x; i k1"],
    ],
  ],
  [
    "lost-update",
    [
      ["r x; a x 1", "r x; a x 2", "= r x 1,2"],
      ["w x 1", "g x 1; w x 2", "g x 1; w x 3"],
      ["g x -; w x 2", "g x -; w x 3"],
      ["i k1", "d k1", "d k1"],
      ["r x; a x 1", "r x; a x 2"],
    ],
  ],
  [
    "dirty-update",
    [
      ["! a x 1", "a x 2", "= r x 1,2"],
      ["a x 1; a x 2", "a x 3", "= r x 1,3"],
      ["! w x 1", "g x 1; w x 2"],
      ["w x 1; w x 2", "g x 1; w x 3"],
    ],
  ],
  [
    "internal",
    [
      ["a x 1; r x"],
      ["r x 1; a x 1"],
      ["w x 1; g x -"],
      ["w y 1", "w x 1; w x 2; g x 1"],
      ["g x 1; w x 1"],
      ["i k1; s k"],
      ["s k k1; i k1"],
      ["i k1", "d k1; s k k1"],
    ],
  ],
  [
    "duplicate",
    [
      ["a x 1", "r x 1,1"],
      ["a x 1", "a x 2", "r x 1,2,1"],
      ["i k1", "s k k1,k1"],
    ],
  ],
  ["unwritten", [["r x 7"], ["g x 7"], ["s k k7"]]],
  [
    "incompatible-order",
    [
      ["a x 1", "a x 2", "r x 1,2", "r x 2"],
      ["a x 1", "a x 2", "r x 1,2", "r x 2,1"],
    ],
  ],
  [
    "lost-commit",
    [
      ["a x 1", "= r x"],
      ["a x 1", "a x 2", "r x 1,2", "= r x 1"],
      ["w x 1", "= g x -"],
      ["w x 1", "g x 1; w x 2", "g x 2; w x 3", "= g x 1"],
      ["i k1", "= s k"],
      ["i k1", "d k1", "= s k k1"],
      ["? a x 1; a y 1", "r x 1", "= r x 1; r y"],
    ],
  ],
  [
    "G-single-realtime",
    [
      ["@1 1-2 a x 1", "@2 3-4 r x", "@3 5-6 r x 1"],
      ["@1 1-2 w x 1", "@2 3-4 g x -"],
      ["@1 1-2 w x 1", "@2 3-4 w x 2", "@3 5-6 g x 1"],
      ["@1 1-2 i k1", "@2 3-4 s k"],
    ],
  ],
  [
    "G-single-session",
    [
      ["@1 1-2 a x 1", "@1 3-4 r x"],
      ["@1 1-2 i k1", "@1 3-4 s k"],
    ],
  ],
  [
    "G1c-realtime",
    [
      ["@1 1-2 r x 1", "@2 3-4 a x 1"],
      ["@1 1-2 g x 1", "@2 3-4 w x 1"],
    ],
  ],
  [
    "G1c-session",
    [
      ["@1 1-2 r x 1", "@1 3-4 a x 1"],
      ["@1 1-2 s k k1", "@1 3-4 i k1"],
    ],
  ],
  [
    "G0-realtime",
    [
      ["@1 1-2 a x 2", "@2 3-4 a x 1", "= r x 1,2"],
      ["@1 1-2 w x 2", "@2 3-4 w x 1", "= g x 2"],
    ],
  ],
  [
    "G0-session",
    [
      ["@1 1-2 a x 2", "@1 3-4 a x 1", "= r x 1,2"],
      ["@1 1-2 w x 2", "@1 3-4 w x 1", "= g x 2"],
    ],
  ],
  [
    "G2-item-realtime",
    [
      ["@1 1-9 r x; a y 1", "@2 1-2 a x 3", "@3 4-9 r y", "= r x 3; r y 1"],
      ["@1 1-9 g x -; w y 1", "@2 1-2 w x 3", "@3 4-9 g y -"],
    ],
  ],
  [
    "G2-item-session",
    [
      ["@1 1-9 r x; a y 1", "@2 1-2 a x 3", "@2 4-9 r y", "= r x 3; r y 1"],
      ["@1 1-9 g x -; w y 1", "@2 1-2 w x 3", "@2 4-9 g y -"],
    ],
  ],
  [
    "G2-realtime",
    [
      ["@1 1-9 s k; a y 1", "@2 1-2 i k3", "@3 4-9 r y", "= r y 1; s k k3"],
      ["@1 1-9 g x -; i k1", "@2 1-2 w x 3", "@3 4-9 s k"],
    ],
  ],
  [
    "G2-session",
    [
      ["@1 1-9 s k; a y 1", "@2 1-2 i k3", "@2 4-9 r y", "= r y 1; s k k3"],
      ["@1 1-9 g x -; i k1", "@2 1-2 w x 3", "@2 4-9 s k"],
    ],
  ],
])("%s", (kind, histories) => {
  test.each(histories.map((lines) => [lines.join(" | "), lines] as const))(
    "is found in %s",
    (_, lines) => {
      const history = historyOf(...lines);
      const report = checkHistory(history);
      expect(Object.keys(report.counts), renderReport(report, history)).toContain(kind);
      expect(report.ok).toBe(false);
    },
  );
});

describe("neighbours that pass", () => {
  test.each([
    [["a x 1; a y 1", "a x 2; a y 2", "= r x 1,2; r y 1,2"]],
    [["! a x 1", "r x", "r x"]],
    [["? a x 1", "r x 1", "r x"]],
    [["? a x 1", "r x"]],
    [["? a x 1; a y 1", "= r x"]],
    [["a x 1; a x 2", "r x 1,2", "r x"]],
    [["a x 1; r x 1; a x 2; r x 1,2", "= r x 1,2"]],
    [["a x 1; r y", "a y 2; r x 1"]],
    [["w x 1; w x 2; g x 2", "g x 2"]],
    [["i k1; d k1; s k", "s k"]],
    [["i k1; s k k1", "s k", "s k k1; d k1", "s k"]],
    [["i k1", "d k1", "m k1", "s k"]],
    [["i k1", "! d k1", "s k", "= s k k1"]],
    [["i k1", "? d k1", "s k", "s k k1"]],
    [["r x; r y; a x 1", "r x 1; r y; a y 2", "= r x 1; r y 2"]],
    [["s k; i k1", "s k k1; i k2"]],
    [["s k; i j1", "s k; i k2"]],
    [["g x -; w x 1", "g x 1; w x 2", "g x 2; w x 3", "= g x 3"]],
    [["w x 1", "w x 2", "w x 3", "g x 1", "g x 3", "= g x 2"]],
    [["@1 1-3 a x 1", "@2 2-4 r x", "@3 5-6 r x 1"]],
    [["@1 1-2 w x 1", "@2 3-6 w x 2", "@3 5-7 g x 1"]],
    [["@1 1-3 w x 1", "@2 2-4 w x 2", "@3 5-7 g x 1"]],
    [["? @1 1-2 a x 1", "@1 3-4 r x", "@1 5-6 r x 1"].map((line) => line.replace("? ", "?"))],
    [["r x 1; a x 2; r x 1,2; a x 3", "a x 1", "= r x 1,2,3"]],
    [["r x; a x 1", "r x 1; a x 2"]],
    [["! r x 7; g y 9", "a x 1"]],
  ])("%s", (lines) => {
    const history = historyOf(...lines);
    const report = checkHistory(history);
    expect(report.counts, renderReport(report, history)).toEqual({});
    expect(report.ok).toBe(true);
  });
});

test("a write skew is no lost update, and the other way round", () => {
  expect(kindsOf(historyOf("r x; r y; a x 1", "r x; r y; a y 2", "= r x 1; r y 2"))).toEqual([
    "G2-item",
  ]);
  expect(kindsOf(historyOf("w x 1", "g x 1; w x 2", "g x 1; w x 3"))).toContain("lost-update");
});

test("an order of a register's writes that the store gives finds what reads alone do not", () => {
  const { transactions } = historyOf("w x 1", "w x 2", "g x 1; g y 3", "w y 3; g x 2");
  expect(checkHistory({ transactions }).ok).toBe(true);
  const order = (...values: number[]): History => ({
    transactions,
    registerOrders: new Map([["x", values]]),
  });
  expect(kindsOf(order(1, 2))).toEqual(["G-single"]);
  expect(kindsOf(order(2, 1))).toEqual([]);
  expect(kindsOf(order(2))).toContain("lost-commit");
});

test("what an isolation level permits is counted and not held against the store", () => {
  const skew = historyOf("r x; r y; a x 1", "r x; r y; a y 2", "= r x 1; r y 2");
  expect(checkHistory(skew, { isolation: "snapshot-isolation" })).toMatchObject({
    ok: true,
    anomalies: [],
    counts: { "G2-item": 1 },
  });
  const stale = historyOf("@1 1-2 a x 1", "@2 3-4 r x");
  expect(checkHistory(stale, { isolation: "serializable" }).ok).toBe(true);
  const lost = historyOf("a x 1", "= r x");
  expect(checkHistory(lost, { isolation: "read-committed" }).ok).toBe(false);
});

test("the report names the transactions of a cycle and why each comes before the next", () => {
  const history = historyOf("@1 1-8 r x; a y 1", "@2 1-9 r y; a x 2", "= r x 2; r y 1");
  const report = checkHistory(history);
  expect(renderReport(report, history)).toMatchInlineSnapshot(`
    "strict-serializable: no (3 transactions, 3 of them committed, 6 operations, 6 dependencies)
      G2-item: 1

    G2-item: Cycle T1 -> T0 -> T1
      T1 -rw-> T0  T1 saw nothing of "y", which T0 replaced with 1
      T0 -rw-> T1  T0 saw nothing of "x", which T1 replaced with 2
      T1 = client 2, 1 to 9, ok: read y = []; append x 2
      T0 = client 1, 1 to 8, ok: read x = []; append y 1"
  `);
  expect(JSON.parse(JSON.stringify(report))).toEqual(report);
});

test("a cycle through a group of writes that no read shows is as short as it can be", () => {
  const appends = Array.from({ length: 21 }, (_, number) => `a x ${number + 1}`);
  const history = historyOf(...appends, "r x; a y 1", "r y; a x 99", "r y; a x 98");
  const report = checkHistory(history);
  expect(report.anomalies.map(({ kind }) => kind)).toEqual(["G2-item"]);
  expect(report.anomalies[0]!.cycle).toHaveLength(2);
  expect(checkHistory(historyOf(...appends, "r x; a y 1", "r y 1; a x 99")).ok).toBe(true);
});

test("histories that are no histories are refused", () => {
  expect(() => checkHistory(historyOf("a x 1", "a x 1"))).toThrow(RangeError);
  expect(() => checkHistory(historyOf("w x 1; w x 1"))).toThrow(RangeError);
  expect(() => checkHistory(historyOf("i k", "i k"))).toThrow(RangeError);
  expect(() => checkHistory(historyOf("@1 5-4 a x 1"))).toThrow(RangeError);
});
