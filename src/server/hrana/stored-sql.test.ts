import { expect, test } from "vitest";
import { StoredSql } from "./stored-sql.ts";

test("the texts of all clients together are bounded, and given back with those who stored them", () => {
  const all = { characters: 0 };
  const text = "-".repeat(2 * 1024 * 1024);
  const clients = Array.from({ length: 32 }, () => new StoredSql(all));
  for (const client of clients) client.store(1, text);
  const late = new StoredSql(all);
  expect(() => late.store(1, "x")).toThrow(
    expect.objectContaining({ code: "SQL_STORE_FULL", retryable: true }),
  );
  expect(late.size).toBe(0);
  clients[0]!.close(1);
  late.store(1, text);
  expect(() => late.store(2, "x")).toThrow("at most 200 texts with 2097152 characters");
  for (const client of [...clients, late]) client.clear();
  expect(all.characters).toBe(0);
});
