/** Commands that take the directory of a store for themselves, while a server has it. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { CommandDirectory } from "../testing/run-command.ts";

let directory: CommandDirectory;

beforeEach(() => {
  directory = new CommandDirectory();
});
afterEach(async () => {
  await directory.end();
});

async function failure(words: readonly string[]): Promise<unknown> {
  const { exitCode, stderr } = await directory.bough([...words, "--output", "json"]);
  expect(exitCode, words.join(" ")).toBe(1);
  return (JSON.parse(stderr) as { error: unknown }).error;
}

test("what needs the store for itself is refused while a server has it", async () => {
  await directory.serve();
  const store = directory.file("store");
  for (const [what, ...words] of [
    ["convert", "store", "convert", "--backend", "leveldb"],
    ["add partitions to", "store", "set", "--partitions", "2"],
    ["upload", "remote", "set", `file://${directory.file("objects")}`],
    ["change the upload of", "remote", "unset"],
    ["repair", "check", "--repair"],
    ["serve", "serve", "--port", "0"],
    ["serve", "serve", "--port", "0", "--threads", "2"],
    ["use --durability remote with", "database", "list", "--durability", "remote"],
  ])
    expect(await failure(words), words.join(" ")).toEqual({
      code: "STORE_LOCKED",
      message: `Cannot ${what} store "${store}": a server (process ${process.pid}) holds it; stop that server first`,
    });
  expect((await directory.bough(["database", "create", "x", "--backend", "memory"])).exitCode).toBe(
    2,
  );
});
