import { expect, expectTypeOf, test } from "vitest";
import { openTestConnection } from "../testing/memory-vfs.ts";
import type { Statement } from "./statement.ts";

interface City {
  id: number;
  name: string;
}

test("prepare takes the types of parameters and rows, as @types/better-sqlite3 does", () => {
  const { connection } = openTestConnection();
  connection.exec("CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT)");
  const insert = connection.prepare<City>("INSERT INTO city VALUES (@id, @name)");
  const find = connection.prepare<[number], City>("SELECT * FROM city WHERE id = ?");
  insert.run({ id: 1, name: "Bern" });
  const row = find.get(1);
  expectTypeOf(row).toEqualTypeOf<City | undefined>();
  expect(row).toEqual({ id: 1, name: "Bern" });
  expectTypeOf(find.all(1)).toEqualTypeOf<City[]>();
  for (const city of find.iterate(1)) expectTypeOf(city).toEqualTypeOf<City>();
  expectTypeOf(insert).toEqualTypeOf<Statement<[City]>>();
  // @ts-expect-error the id is a number
  expect(find.get("1")).toBeDefined();
  expectTypeOf(connection.prepare("SELECT 1").get()).toEqualTypeOf<unknown>();
});
