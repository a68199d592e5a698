/** Kysely's own SqliteDialect, unchanged, on bough/better-sqlite3. */
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Generated, Kysely, sql, SqliteDialect } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Database } from "../src/better-sqlite3.ts";

interface Schema {
  readonly person: {
    readonly id: Generated<number>;
    readonly name: string;
    readonly age: number | null;
    readonly photo: Buffer | null;
  };
  readonly pet: {
    readonly id: Generated<number>;
    readonly name: string;
    readonly owner_id: number;
    readonly species: "cat" | "dog";
  };
}

let directory: string;
let db: Kysely<Schema>;

beforeEach(async () => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-kysely-"));
  db = open("shop");
  await db.schema
    .createTable("person")
    .addColumn("id", "integer", (column) => column.primaryKey().autoIncrement())
    .addColumn("name", "text", (column) => column.notNull().unique())
    .addColumn("age", "integer")
    .addColumn("photo", "blob")
    .execute();
  await db.schema
    .createTable("pet")
    .addColumn("id", "integer", (column) => column.primaryKey())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("owner_id", "integer", (column) => column.references("person.id").notNull())
    .addColumn("species", "text", (column) => column.notNull())
    .execute();
  await db.schema.createIndex("pet_owner").on("pet").column("owner_id").execute();
});

afterEach(async () => {
  await db.destroy();
  fs.rmSync(directory, { recursive: true, force: true });
});

function open(name: string): Kysely<Schema> {
  const database = new Database(join(directory, name));
  return new Kysely<Schema>({ dialect: new SqliteDialect({ database }) });
}

describe("Kysely", () => {
  test("inserts, and returns what was inserted", async () => {
    const photo = Buffer.from([1, 2, 0, 255]);
    const inserted = await db
      .insertInto("person")
      .values([
        { name: "Ada", age: 36, photo },
        { name: "Grace", age: null, photo: null },
      ])
      .returningAll()
      .execute();
    expect(inserted).toEqual([
      { id: 1, name: "Ada", age: 36, photo },
      { id: 2, name: "Grace", age: null, photo: null },
    ]);
    const result = await db.insertInto("person").values({ name: "Edith" }).executeTakeFirst();
    expect(result.insertId).toBe(3n);
    expect(result.numInsertedOrUpdatedRows).toBe(1n);
  });

  test("joins, groups, and orders", async () => {
    await addPeople();
    const rows = await db
      .selectFrom("person")
      .leftJoin("pet", "pet.owner_id", "person.id")
      .select((eb) => ["person.name", eb.fn.count<number>("pet.id").as("pets")])
      .groupBy("person.id")
      .orderBy("person.name", "desc")
      .execute();
    expect(rows).toEqual([
      { name: "Grace", pets: 0 },
      { name: "Ada", pets: 2 },
    ]);
  });

  test("updates with returning, upserts, deletes", async () => {
    await addPeople();
    const updated = await db
      .updateTable("person")
      .set((eb) => ({ age: eb("age", "+", 1) }))
      .where("name", "=", "Ada")
      .returning(["id", "age"])
      .executeTakeFirstOrThrow();
    expect(updated).toEqual({ id: 1, age: 37 });
    await db
      .insertInto("person")
      .values({ name: "Ada", age: 99 })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ age: 1 }))
      .execute();
    const ada = db.selectFrom("person").select("age").where("name", "=", "Ada");
    expect(await ada.executeTakeFirst()).toEqual({ age: 1 });
    const deleted = await db.deleteFrom("pet").where("species", "=", "cat").executeTakeFirst();
    expect(deleted.numDeletedRows).toBe(1n);
  });

  test("a transaction commits as a whole, or not at all", async () => {
    await db.transaction().execute(async (trx) => {
      const { id } = await trx
        .insertInto("person")
        .values({ name: "Ada" })
        .returning("id")
        .executeTakeFirstOrThrow();
      await trx.insertInto("pet").values({ name: "Tom", owner_id: id, species: "cat" }).execute();
    });
    const failing = db.transaction().execute(async (trx) => {
      await trx.insertInto("person").values({ name: "Grace" }).execute();
      await trx.insertInto("person").values({ name: "Ada" }).execute();
    });
    await expect(failing).rejects.toMatchObject({
      code: "SQLITE_CONSTRAINT_UNIQUE",
      message: "UNIQUE constraint failed: person.name",
    });
    const names = await db.selectFrom("person").select("name").execute();
    expect(names).toEqual([{ name: "Ada" }]);
  });

  test("a controlled transaction rolls back to a savepoint", async () => {
    const trx = await db.startTransaction().execute();
    await trx.insertInto("person").values({ name: "Ada" }).execute();
    const inner = await trx.savepoint("inner").execute();
    await inner.insertInto("person").values({ name: "Grace" }).execute();
    const outer = await inner.rollbackToSavepoint("inner").execute();
    await outer.insertInto("person").values({ name: "Edith" }).execute();
    await outer.commit().execute();
    const names = await db.selectFrom("person").select("name").orderBy("id").execute();
    expect(names.map(({ name }) => name)).toEqual(["Ada", "Edith"]);
  });

  test("streams rows, and runs raw SQL", async () => {
    await addPeople();
    const names: string[] = [];
    for await (const { name } of db.selectFrom("person").select("name").stream()) names.push(name);
    expect(names.sort()).toEqual(["Ada", "Grace"]);
    const raw = await sql<{
      total: number;
    }>`SELECT sum(age) AS total FROM person WHERE age > ${1}`.execute(db);
    expect(raw.rows).toEqual([{ total: 36 }]);
  });

  test("its migrator moves up and down, and its introspection sees the tables", async () => {
    const migrations: Record<string, Migration> = {
      "1-add": {
        up: (one: Kysely<Schema>) =>
          one.schema.alterTable("pet").addColumn("color", "text").execute(),
        down: (one: Kysely<Schema>) => one.schema.alterTable("pet").dropColumn("color").execute(),
      },
    };
    const migrator = new Migrator({
      db,
      provider: { getMigrations: () => Promise.resolve(migrations) },
    });
    const up = await migrator.migrateToLatest();
    expect(up.error).toBeUndefined();
    expect(up.results).toMatchObject([{ status: "Success" }]);
    const columns = async (): Promise<string[] | undefined> =>
      (await db.introspection.getTables())
        .find(({ name }) => name === "pet")
        ?.columns.map(({ name }) => name);
    expect(await columns()).toEqual(["id", "name", "owner_id", "species", "color"]);
    const down = await migrator.migrateDown();
    expect(down.error).toBeUndefined();
    expect(await columns()).toEqual(["id", "name", "owner_id", "species"]);
  });

  test("what was written is there after a reopen", async () => {
    await addPeople();
    await db.destroy();
    db = open("shop");
    expect(await db.selectFrom("pet").selectAll().execute()).toHaveLength(2);
  });
});

async function addPeople(): Promise<void> {
  await db
    .insertInto("person")
    .values([{ name: "Ada", age: 36 }, { name: "Grace" }])
    .execute();
  await db
    .insertInto("pet")
    .values([
      { name: "Tom", owner_id: 1, species: "cat" },
      { name: "Rex", owner_id: 1, species: "dog" },
    ])
    .execute();
}
