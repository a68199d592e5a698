/** bough beside better-sqlite3, in one process: `npm run bench -- --help` names the options. */
import { benchBackends } from "./backends.ts";
import { benchBranches } from "./branches.ts";
import { benchGarbage } from "./garbage.ts";
import { benchImport } from "./importing.ts";
import { benchConcurrent } from "./concurrent.ts";
import { benchManyDatabases } from "./many-databases.ts";
import type { ResultRow } from "./measure.ts";
import { benchOpening } from "./opening.ts";
import { benchRemote } from "./remote.ts";
import { benchReads } from "./reads.ts";
import { benchServer } from "./server.ts";
import { describeMachine, tableHeader, tableLine, writeJson } from "./report.ts";
import { Settings } from "./settings.ts";
import { Sides, Workspace } from "./sides.ts";
import { benchStorageCost } from "./storage-cost.ts";
import { benchWrites } from "./writes.ts";

async function main(root: string, argv: readonly string[]): Promise<void> {
  const print = (text: string): void => void process.stdout.write(`${text}\n`);
  const settings = Settings.parse(argv, (row) => print(tableLine(row)));
  const workspace = new Workspace(root);
  try {
    const sides = new Sides(workspace);
    const probe = sides.sqlite();
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const sqlite = probe.prepare("SELECT sqlite_version()").pluck().get() as string;
    probe.close();
    const machine = describeMachine(sides.version, sqlite);
    print(
      `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}`,
    );
    print(
      `better-sqlite3 ${machine.betterSqlite3} (SQLite ${machine.sqlite}): WAL, synchronous=FULL where durable, 4 KiB pages, 16 MB cache; bough: the same cache`,
    );
    print(
      `Medians of ${settings.rounds} alternated rounds after one to warm up; ratios of throughput\n`,
    );
    print(tableHeader());
    const rows: ResultRow[] = [];
    rows.push(...(await benchReads(sides, settings)));
    rows.push(...(await benchWrites(sides, settings)));
    rows.push(...(await benchConcurrent(sides, settings)));
    rows.push(...benchBranches(sides, settings));
    rows.push(...benchOpening(sides, settings));
    rows.push(...benchImport(sides, settings));
    rows.push(...benchStorageCost(sides, settings));
    rows.push(...benchBackends(workspace, settings));
    rows.push(...benchManyDatabases(workspace, settings));
    rows.push(...(await benchGarbage(sides, settings)));
    rows.push(...(await benchRemote(sides, settings)));
    rows.push(...(await benchServer(sides, settings)));
    print(`\nWritten to ${writeJson(root, machine, rows)}`);
  } finally {
    workspace.dispose();
  }
}

await main(process.argv[2]!, process.argv.slice(3));
