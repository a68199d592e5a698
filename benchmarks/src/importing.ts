/** Importing a plain SQLite file over 1 GiB, in a process of its own whose memory is watched. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { ImportFacts } from "./import-file-process.ts";
import { fact, median, type ResultRow } from "./measure.ts";
import { Prose } from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import { inTransaction, type Sides } from "./sides.ts";

const ROWS = 620_000;
const ROWS_PER_TRANSACTION = 20_000;
const ROW_LENGTH = 1800;
const RUNS = 3;

export function benchImport(sides: Sides, settings: Settings): ResultRow[] {
  if (!settings.includes("import") || settings.isQuick) return [];
  const file = largeFile(sides);
  const script = fileURLToPath(new URL("import-file-process.js", import.meta.url));
  const runs: ImportFacts[] = [];
  for (let run = 0; run < RUNS; run++) {
    const store = sides.workspace.path("import");
    const output = execFileSync(process.execPath, [script, store, file], { encoding: "utf8" });
    runs.push(JSON.parse(output));
    fs.rmSync(store, { recursive: true });
  }
  const size = (fs.statSync(file).size / 1024 ** 3).toFixed(2);
  const rows = [
    fact(
      { item: "import", title: `Import of a plain file of ${size} GiB, durable`, unit: "MiB/s" },
      median(runs.map(({ mibPerSecond }) => mibPerSecond)),
      { min: 100 },
    ),
    fact(
      { item: "import-rss", title: "  largest resident set of that process", unit: "MiB" },
      Math.max(...runs.map(({ residentMiB }) => residentMiB)),
      { max: 300 },
    ),
  ];
  for (const row of rows) settings.show(row);
  return rows;
}

function largeFile(sides: Sides): string {
  const file = path.join(sides.workspace.cache, "large-1.db");
  if (fs.existsSync(file)) return file;
  process.stderr.write("Making a plain database over 1 GiB (kept under benchmarks/.cache) ...\n");
  const building = `${file}.building`;
  fs.rmSync(building, { force: true });
  const sqlite = sides.sqlite("off", building);
  sqlite.exec("CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT)");
  const insert = sqlite.prepare("INSERT INTO note(title, body) VALUES (?, ?)");
  const prose = new Prose(sides.workspace.root);
  for (let number = 0; number < ROWS;) {
    inTransaction(sqlite, () => {
      for (let row = 0; row < ROWS_PER_TRANSACTION; row++)
        insert.run(`Note ${++number}`, `${number} ${prose.passage(ROW_LENGTH)}`);
    });
  }
  sqlite.close();
  fs.renameSync(building, file);
  return file;
}
