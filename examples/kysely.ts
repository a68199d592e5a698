/** Kysely with its libSQL dialect: `npx tsx examples/kysely.ts http://127.0.0.1:8080/shop/` */
import { LibsqlDialect } from "@libsql/kysely-libsql";
import { type Generated, Kysely } from "kysely";

interface Schema {
  readonly person: { readonly id: Generated<number>; readonly name: string; readonly age: number };
}

const [url = "http://127.0.0.1:8080/"] = process.argv.slice(2);
const db = new Kysely<Schema>({ dialect: new LibsqlDialect({ url }) });

await db.schema
  .createTable("person")
  .ifNotExists()
  .addColumn("id", "integer", (column) => column.primaryKey())
  .addColumn("name", "text", (column) => column.notNull())
  .addColumn("age", "integer", (column) => column.notNull())
  .execute();
await db.deleteFrom("person").execute();
await db.transaction().execute(async (transaction) => {
  await transaction
    .insertInto("person")
    .values([
      { name: "Ada", age: 36 },
      { name: "Grace", age: 85 },
    ])
    .execute();
});

const oldest = await db
  .selectFrom("person")
  .select(["name", "age"])
  .orderBy("age", "desc")
  .executeTakeFirstOrThrow();
console.log(`${oldest.name}, ${oldest.age}`);
await db.destroy();
