import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { COMMAND_TARGETS, CommandDirectory } from "../testing/run-command.ts";
import { parseSize } from "./numbers.ts";
import { parseDuration, showDuration } from "./time.ts";

let directory: CommandDirectory;

describe.each(COMMAND_TARGETS)("the store of a %s", (target) => {
  beforeEach(async () => {
    directory = await CommandDirectory.on(target);
    await directory.ok(["database", "create", "shop"]);
    for (const sql of ["CREATE TABLE item(x)", "INSERT INTO item VALUES (1)"])
      await directory.ok(["sql", "shop", sql]);
    await directory.ok(["branch", "create", "shop/dev"]);
  });

  afterEach(async () => {
    await directory.end();
  });

  test("a database says what holds, a branch may say something else, and forgets it again", async () => {
    const words = ["--every-commit", "48h", "--daily", "forever", "--history-bytes", "1.5GiB"];
    expect(await directory.ok(["retention", "set", "shop", ...words])).toBe(
      'Retention of "shop": every commit 2d, hourly 7d, daily forever, deleted 7d, history at most 1.5 GiB\n',
    );
    expect(
      await directory.json([
        "retention",
        "set",
        "shop/dev",
        "--every-commit",
        "0",
        "--hourly",
        "1h30m",
      ]),
    ).toEqual({
      everyCommitMs: 0,
      historyBytesMax: 1.5 * 1024 ** 3,
      hourlyMs: 5_400_000,
      dailyMs: null,
      undeleteMs: 604_800_000,
    });
    expect(await directory.ok(["retention", "show", "shop"])).toMatch(
      /│ +1\.\.2 │ \d{4}-.* │ every commit │ 2d after each; the head for ever │/,
    );
    expect(await directory.ok(["retention", "show", "shop/dev"])).toContain("every commit 0,");
    await directory.ok(["retention", "set", "shop/dev", "--unset"]);
    expect(await directory.json(["retention", "show", "shop/dev"])).toMatchObject({
      policy: { everyCommitMs: 172_800_000, hourlyMs: 604_800_000 },
      everyCommitFrom: { version: 1 },
      older: [],
      hasExpired: false,
    });
  });

  test("wrong usage says what is expected", async () => {
    const set = ["retention", "set"];
    expect(await directory.fails(2, [...set, "shop"])).toContain("--every-commit 48h");
    expect(await directory.fails(2, [...set, "shop", "--daily", "soon"])).toContain('"soon"');
    expect(await directory.fails(2, [...set, "shop", "--history-bytes", "1 XB"])).toContain(
      "512MiB",
    );
    expect(await directory.fails(2, [...set, "shop", "--unset", "--hourly", "1h"])).toContain(
      "--unset",
    );
    expect(await directory.fails(2, [...set, "shop@1", "--hourly", "1h"])).toContain(
      "fixed version",
    );
    expect(await directory.fails(2, [...set, "shop/dev", "--history-bytes", "1MiB"])).toContain(
      'set it for "shop"',
    );
    expect(await directory.fails(1, [...set, "shop/none", "--hourly", "1h"])).toContain(
      "shop/none",
    );
  });

  test("sizes and durations", () => {
    expect(parseSize("--size", "0")).toBe(0);
    expect(parseSize("--size", "64kib")).toBe(65_536);
    expect(parseSize("--size", "2 GiB")).toBe(2 ** 31);
    expect(parseSize("--size", "forever")).toBeNull();
    for (const text of ["", "-1", "1.2.3", "KiB", "9999999999 TiB"])
      expect(() => parseSize("--size", text), text).toThrow("must be a number of bytes");
    for (const text of ["0", "1ms", "90d", "1d2h3m4s5ms", "forever"])
      expect(showDuration(parseDuration("--time", text))).toBe(text);
    for (const text of ["", "7", "7d7d", "tomorrow"])
      expect(() => parseDuration("--time", text), text).toThrow("give a duration");
    expect(() => parseDuration("--time", "-7d")).toThrow("without a minus");
  });
});
