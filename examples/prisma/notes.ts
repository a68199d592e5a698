/**
 * Prisma 7 with its libSQL adapter: `npx tsx examples/prisma/notes.ts http://127.0.0.1:8080/shop/`
 * The client in generated/ is made from schema.prisma by `npx prisma generate --schema examples/prisma/schema.prisma`.
 */
import { PrismaLibSql } from "@prisma/adapter-libsql";
import { PrismaClient } from "./generated/client.ts";

const [url = "http://127.0.0.1:8080/"] = process.argv.slice(2);
const prisma = new PrismaClient({ adapter: new PrismaLibSql({ url }) });

// Prisma's own migrations need its schema engine and a file; here the table is made with SQL.
await prisma.$executeRaw`CREATE TABLE Note (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL)`;
await prisma.note.createMany({ data: [{ text: "first" }, { text: "second" }] });

await prisma.$transaction(async (transaction) => {
  const note = await transaction.note.findFirstOrThrow({ where: { text: "second" } });
  await transaction.note.update({ where: { id: note.id }, data: { text: "changed" } });
});
const failed = await prisma
  .$transaction(async (transaction) => {
    await transaction.note.deleteMany();
    throw new Error("On second thought");
  })
  .catch(() => "rolled back");

const notes = await prisma.note.findMany({ orderBy: { id: "asc" } });
console.log(`${notes.map(({ text }) => text).join(", ")}; ${failed}`);

await prisma.$executeRaw`DROP TABLE Note`;
await prisma.$disconnect();
