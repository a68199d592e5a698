import { describe, expect, test } from "vitest";
import { CollectingStream } from "../testing/run-command.ts";
import { showBytes } from "./numbers.ts";
import { ProgressBar } from "./progress.ts";

describe("ProgressBar", () => {
  test("draws on a terminal, not more often than ten times a second, within its width", () => {
    const stream = new CollectingStream({ isTTY: true, columns: 50 });
    let nowMs = 1000;
    const bar = new ProgressBar("Importing", stream, () => nowMs);
    bar.update({ done: 1, total: 4, text: "1 of 4" });
    nowMs += 50;
    bar.update({ done: 2, total: 4, text: "2 of 4" });
    nowMs += 50;
    bar.update({ done: 3, total: 4, text: "3 of 4, and more than fits into the line" });
    const frames = stream.text.split("\r\u001b[K").slice(1);
    expect(frames).toHaveLength(2);
    expect(frames[0]).toBe("Importing ██████░░░░░░░░░░░░░░░░░░  25%  1 of 4");
    expect(frames[1]).toHaveLength(49);
    bar.end();
    expect(stream.text.endsWith("\r\u001b[K")).toBe(true);
  });

  test("writes nothing to a pipe", () => {
    const stream = new CollectingStream();
    const bar = new ProgressBar("Importing", stream);
    bar.update({ done: 1, total: 4, text: "1 of 4" });
    bar.end();
    expect(stream.text).toBe("");
  });

  test("a total that is not known yet is an empty bar", () => {
    const stream = new CollectingStream({ isTTY: true });
    new ProgressBar("Checking", stream).update({ done: 5, total: 0, text: "log" });
    expect(stream.text).toContain("   0%  log");
  });
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [1_048_575, "1.0 MiB"],
  [1_610_612_736, "1.5 GiB"],
  [5 * 2 ** 50, "5120.0 TiB"],
])("%d bytes are shown as %s", (bytes, text) => {
  expect(showBytes(bytes)).toBe(text);
});
