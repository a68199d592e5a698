/**
 * A branch for each tenant: `npx tsx examples/tenant-per-branch.ts ./tenants`
 *
 * The branch "main" is the template, with schema and first data. A tenant is a fork of it: made in no time, without a copy, and what tenants
 * have in common is stored once. Each has its own URL, and nothing that one does is seen by another.
 */
import { createClient, type Client } from "@libsql/client";
import { serveStore } from "../src/server/serve.ts";
import { openStore } from "../src/store/store.ts";

const [directory = "./tenants"] = process.argv.slice(2);
const store = openStore(directory);
const app = store.createDatabase("app");
const server = await serveStore(store, { settings: { port: 0 } });

function connect(revision: string): Client {
  return createClient({ url: `${server.url}/${revision}/` });
}

const template = connect("app");
await template.batch(
  [
    "CREATE TABLE plan(name TEXT PRIMARY KEY, price INTEGER)",
    "CREATE TABLE setting(name TEXT PRIMARY KEY, value TEXT)",
    "INSERT INTO plan VALUES ('free', 0), ('team', 20)",
  ],
  "write",
);
template.close();

for (const tenant of ["acme", "globex"]) {
  app.createBranch(`tenant/${tenant}`);
  const client = connect(`app/tenant/${tenant}`);
  await client.execute({ sql: "INSERT INTO setting VALUES ('name', ?)", args: [tenant] });
  client.close();
}

for (const tenant of ["acme", "globex"]) {
  const client = connect(`app/tenant/${tenant}`);
  const { rows } = await client.execute(
    "SELECT value, (SELECT count(*) FROM plan) AS plans FROM setting",
  );
  console.log(
    rows.map((row) => `${row["value"] as string}: ${row["plans"] as number} plans`).join("\n"),
  );
  client.close();
}
await server.stop();
await store.closeAsync();
