/** Awaited connections on stores in object storage as users have them: a directory that stands for a bucket. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStoreAsync } from "../src/store/store.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-async-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

test("what an awaited commit acknowledged is read by a machine that has only the bucket, page by page", async () => {
  const url = pathToFileURL(join(directory, "bucket")).href;
  const writer = await openStoreAsync(join(directory, "writer"), {
    remote: url,
    durability: "remote",
  });
  writer.createDatabase("shop");
  const connection = await writer.open("shop");
  await connection.transaction(async () => {
    await connection.exec(
      "CREATE TABLE item(id INTEGER PRIMARY KEY, name BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) INSERT INTO item SELECT i, randomblob(300) FROM n",
    );
  });
  writer.checkpoint();
  await writer.upload();
  await connection.exec("INSERT INTO item VALUES(6000, 'acknowledged')");
  const reader = await openStoreAsync(url);
  const connections = await Promise.all(Array.from({ length: 5 }, () => reader.open("shop")));
  const rows = await Promise.all(
    connections.map(async (each) => {
      const statement = await each.prepare("SELECT count(*), sum(length(name)) FROM item");
      return await statement.values();
    }),
  );
  expect(rows).toEqual(connections.map(() => [[201, 60_012]]));
  expect(await connections[0]?.pragma("integrity_check", { simple: true })).toBe("ok");
  await expect(connections[1]?.exec("DELETE FROM item")).rejects.toMatchObject({
    code: "READ_ONLY",
  });
  await reader.closeAsync();
  await writer.closeAsync();
});
