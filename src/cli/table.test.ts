import { describe, expect, test } from "vitest";
import { drawRow, layOut, tableOf } from "./table.ts";

describe("tableOf", () => {
  test("columns of numbers stand to the right", () => {
    expect(
      tableOf(
        ["name", "size"],
        [
          ["a", "1"],
          ["bcd", "10.5 KiB"],
        ],
        Infinity,
      ),
    ).toBe(
      [
        "┌──────┬──────────┐",
        "│ name │     size │",
        "├──────┼──────────┤",
        "│ a    │        1 │",
        "│ bcd  │ 10.5 KiB │",
        "└──────┴──────────┘",
      ].join("\n"),
    );
  });

  test("wide and combining characters keep the borders straight", () => {
    const lines = tableOf(["t"], [["日本"], ["e\u0301"], ["abcd"]], Infinity).split("\n");
    expect(lines.slice(3, 6)).toEqual(["│ 日本 │", "│ e\u0301    │", "│ abcd │"]);
  });

  test("the widest columns are cut to the terminal's width, and nothing without one", () => {
    const row = ["short", "x".repeat(100), "y".repeat(50)];
    const cut = tableOf(["a", "b", "c"], [row], 60).split("\n");
    expect(new Set(cut.map((line) => line.length))).toEqual(new Set([60]));
    expect(cut[3]).toMatch(/^│ short │ x+… │ y+… │$/);
    expect(tableOf(["a", "b", "c"], [row], Infinity)).toContain("x".repeat(100));
  });
});

test("a later text that is longer than the layout sticks out instead of being cut", () => {
  const layout = layOut([["12", "é"]], { columns: 80, alignments: ["right", "left"] });
  expect(drawRow(["123456", "a"], layout)).toBe("│ 123456 │ a │");
  expect(drawRow(["123456", "日本"], layout)).toBe("│ 123456 │ 日本 │");
});

test("a column that had to be cut cuts later texts too", () => {
  const layout = layOut([["x".repeat(50)]], { columns: 20, alignments: ["left"] });
  expect(drawRow(["y".repeat(60)], layout)).toHaveLength(20);
});
