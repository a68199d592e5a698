/** Drizzle with its libSQL driver: `npx tsx examples/drizzle.ts http://127.0.0.1:8080/shop/` */
import { createClient } from "@libsql/client";
import { eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/libsql";
import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

const note = sqliteTable("note", {
  id: integer().primaryKey(),
  title: text().notNull(),
  done: integer({ mode: "boolean" }).notNull().default(false),
});

const [url = "http://127.0.0.1:8080/"] = process.argv.slice(2);
const client = createClient({ url });
const db = drizzle(client);

await db.run(
  sql`CREATE TABLE IF NOT EXISTS note(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0)`,
);
await db.delete(note);
await db.transaction(async (tx) => {
  await tx.insert(note).values([{ title: "write" }, { title: "test" }]);
  await tx.update(note).set({ done: true }).where(eq(note.title, "write"));
});

for (const { title, done } of await db.select().from(note).orderBy(note.id))
  console.log(`${title}: ${done ? "done" : "open"}`);
client.close();
