import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { logTo } from "./log-output.ts";
import { TextOutput } from "./terminal.ts";

test("regression: lines that cannot be written are lost, and nothing else is", async () => {
  const tried: string[] = [];
  const full = Object.assign(new Error("no space left"), { code: "ENOSPC" });
  const stream = new Writable({
    autoDestroy: false,
    write: (chunk, _, done) => {
      tried.push(String(chunk));
      done(full);
    },
  });
  const write = logTo(new TextOutput(stream));
  write("a\n");
  write("b\n");
  // A promise that nobody waits for would end the process, and does end the tests.
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(tried[0]).toBe("a\n");
});
