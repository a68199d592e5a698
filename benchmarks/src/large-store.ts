/** A store with a database over 1 GiB, of real text, made once and kept under benchmarks/.cache. */
import fs from "node:fs";
import path from "node:path";
import { openStore } from "../../src/store/store.ts";
import { Prose } from "./sample-data.ts";
import { inTransaction, type Workspace } from "./sides.ts";

const GIB = 1024 ** 3;
const ROW_LENGTH = 1800;
const ROWS_PER_TRANSACTION = 20_000;

/** The path of a copy that may be changed. */
export function largeStore(workspace: Workspace): string {
  const cached = path.join(workspace.cache, "large-store-1");
  if (!fs.existsSync(cached)) {
    process.stderr.write(
      "Making a store with a 1 GiB database (kept under benchmarks/.cache) ...\n",
    );
    const building = `${cached}.building`;
    fs.rmSync(building, { recursive: true, force: true });
    makeLargeStore(workspace.root, building);
    fs.renameSync(building, cached);
  }
  const copy = workspace.path("large-store");
  fs.cpSync(cached, copy, { recursive: true, dereference: true });
  syncFiles(copy);
  return copy;
}

/** Else the system writes the copy out while something else is measured. */
function syncFiles(directory: string): void {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const file = fs.openSync(path.join(entry.parentPath, entry.name), "r+");
    fs.fsyncSync(file);
    fs.closeSync(file);
  }
}

function makeLargeStore(root: string, directory: string): void {
  const prose = new Prose(root);
  const store = openStore(directory);
  const database = store.createDatabase("large");
  const connection = store.connect("large");
  connection.exec("CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT)");
  const insert = connection.prepare("INSERT INTO note(title, body) VALUES (?, ?)");
  let number = 0;
  while (database.branch().head.pageCount * 4096 <= GIB) {
    inTransaction(connection, () => {
      for (let row = 0; row < ROWS_PER_TRANSACTION; row++)
        insert.run(`Note ${++number}`, `${number} ${prose.passage(ROW_LENGTH)}`);
    });
  }
  store.close();
}
