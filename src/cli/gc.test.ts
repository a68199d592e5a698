/** `bough gc`: what it prints, and that it frees. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { COMMAND_TARGETS, CommandDirectory } from "../testing/run-command.ts";

let directory: CommandDirectory;

describe.each(COMMAND_TARGETS)("the store of a %s", (target) => {
  beforeEach(async () => {
    directory = await CommandDirectory.on(target);
    await directory.ok(["database", "create", "shop"]);
    await directory.ok([
      "sql",
      "shop",
      "CREATE TABLE t(value); INSERT INTO t VALUES (randomblob(90000))",
    ]);
    await directory.ok(["branch", "create", "shop/dev"]);
    await directory.ok(["sql", "shop/dev", "INSERT INTO t VALUES (randomblob(300000))"]);
  });

  afterEach(async () => {
    await directory.end();
  });

  test("says what holds space, by branch, and what it freed", async () => {
    const report = await directory.json(["gc"]);
    expect(report).toMatchObject({
      isDryRun: false,
      held: {
        holders: expect.arrayContaining([
          { revision: "shop/dev", kind: "head", ownBytes: expect.any(Number) },
          { revision: "shop", kind: "head", ownBytes: expect.any(Number) },
        ]),
      },
    });
    const text = await directory.ok(["gc", "--dry-run"]);
    expect(text).toMatch(/^Would free /);
    expect(text).toMatch(/│ shop\/dev +│ head +│ +2\d\d\.\d KiB │/);
    expect(text).toMatch(/Shared by several of them: \d/);
  });

  test("refuses csv", async () => {
    expect(await directory.fails(2, ["gc", "--output", "csv"])).toContain("csv");
  });
});
