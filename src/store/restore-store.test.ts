import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { restoreStore } from "./restore-store.ts";
import { openStore } from "./store.ts";

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "bough-restore-"));
});

afterEach(() => rmSync(root, { recursive: true }));

test("a copy that cannot go back to where it was wanted is no store", async () => {
  const url = pathToFileURL(join(root, "objects")).href;
  const store = openStore(join(root, "store"), { remote: url });
  store.createDatabase("shop");
  {
    using connection = store.connect("shop");
    connection.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
  }
  await store.upload();
  store.close();
  const copy = join(root, "copy");
  await expect(restoreStore(url, copy, { to: "shop@99" })).rejects.toMatchObject({
    code: "VERSION_NOT_FOUND",
  });
  expect(() => openStore(copy, { create: false })).toThrow(
    expect.objectContaining({ code: "STORE_NOT_FOUND" }),
  );
  expect(existsSync(join(copy, "catalog"))).toBe(true);
  const other = join(root, "other");
  const { check, databases } = await restoreStore(url, other);
  expect(check?.ok).toBe(true);
  expect(databases).toBe(1);
  await expect(restoreStore(url, other)).rejects.toMatchObject({ code: "FILE_EXISTS" });
});
