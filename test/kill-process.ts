/**
 * Run by kill.test.ts, which kills it: random transactions, forks and checkpoints on a store on the real disk. Each line
 * on its standard output tells, as JSON, what is about to be done ("begin") or is done ("end").
 *
 * The content of a branch is one number, made of those before: after the n-th transaction, `counter.value` is n, and
 * `entry` has the rows 1 to n. So a count tells everything.
 */
import { writeSync } from "node:fs";
import { openStore } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";

export type KillEvent =
  | { readonly kind: "ready" }
  | {
      readonly kind: "begin" | "end";
      readonly what: "commit";
      /** [branch, count after it] of every branch that the transaction writes. */
      readonly counts: readonly (readonly [string, number])[];
    }
  | {
      readonly kind: "begin" | "end";
      readonly what: "fork";
      readonly branch: string;
      readonly count: number;
    };

const [path = "", seed = "1"] = process.argv.slice(2);
const random = new Random(Number(seed));
const store = openStore(path, {
  logSegmentBytes: 256 * 1024,
  checkpointBytes: 512 * 1024,
  transactionBytesMax: 64 * 1024,
});
const shop = store.databases()[0] ?? store.createDatabase("shop");
const counts = new Map<string, number>();
const connections = new Map<string, StoreConnection>();

function say(event: KillEvent): void {
  writeSync(1, `${JSON.stringify(event)}\n`);
}

function connect(branch: string): StoreConnection {
  let connection = connections.get(branch);
  if (connection === undefined) {
    connection = store.connect(`shop/${branch}`);
    connections.set(branch, connection);
  }
  return connection;
}

function add(connection: StoreConnection, schema: string, count: number): void {
  connection.prepare(`UPDATE ${schema}.counter SET value = ?`).run(count);
  const size = random.chance(0.03) ? 200_000 : random.integer(0, 600);
  connection.prepare(`INSERT INTO ${schema}.entry VALUES (?, randomblob(?))`).run(count, size);
}

function commit(): void {
  const [branch, other] = random.shuffle([...counts.keys()]);
  if (branch === undefined) return;
  const changes: [string, number][] = [[branch, counts.get(branch)! + 1]];
  if (other !== undefined && random.chance(0.2)) changes.push([other, counts.get(other)! + 1]);
  say({ kind: "begin", what: "commit", counts: changes });
  const connection = connect(branch);
  if (changes.length > 1) connection.exec(`ATTACH 'shop/${other}' AS other`);
  connection.exec("BEGIN");
  changes.forEach(([, count], index) => add(connection, index === 0 ? "main" : "other", count));
  connection.exec("COMMIT");
  say({ kind: "end", what: "commit", counts: changes });
  if (changes.length > 1) connection.exec("DETACH other");
  for (const [name, count] of changes) counts.set(name, count);
}

function fork(): void {
  if (counts.size >= 6) return;
  const from = random.pick([...counts.keys()]);
  const branch = `b${counts.size}-${random.nextUint32()}`;
  const event = { what: "fork", branch, count: counts.get(from)! } as const;
  say({ kind: "begin", ...event });
  shop.createBranch(branch, { from: `shop/${from}` });
  say({ kind: "end", ...event });
  counts.set(branch, event.count);
}

if (shop.version === 0) {
  connect("main").exec(
    `BEGIN; CREATE TABLE counter(value INTEGER); INSERT INTO counter VALUES (0);
     CREATE TABLE entry(id INTEGER PRIMARY KEY, payload BLOB); COMMIT`,
  );
}
for (const { name } of shop.branches()) {
  const value = connect(name).prepare("SELECT value FROM counter").pluck().get();
  counts.set(name, Number(value));
}
say({ kind: "ready" });

function turn(): void {
  for (let index = 0; index < 5; index++) {
    const choice = random.next();
    if (choice < 0.93) commit();
    else if (choice < 0.97) fork();
    else store.checkpoint();
  }
  setImmediate(turn);
}
turn();
