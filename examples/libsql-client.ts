/** @libsql/client against a branch: `npx tsx examples/libsql-client.ts http://127.0.0.1:8080/shop/` */
import { createClient } from "@libsql/client";

const [url = "http://127.0.0.1:8080/"] = process.argv.slice(2);
const client = createClient({ url });

await client.batch(
  [
    "CREATE TABLE IF NOT EXISTS fruit(id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "DELETE FROM fruit",
    { sql: "INSERT INTO fruit(name) VALUES (?), (?)", args: ["apple", "pear"] },
  ],
  "write",
);

const transaction = await client.transaction("write");
try {
  await transaction.execute({
    sql: "INSERT INTO fruit(name) VALUES (:name)",
    args: { name: "plum" },
  });
  await transaction.commit();
} finally {
  transaction.close();
}

const { rows } = await client.execute("SELECT name FROM fruit ORDER BY id");
console.log(rows.map((row) => row["name"] as string).join(", "));
client.close();
