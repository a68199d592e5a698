/** The catalog backends beside each other, without the rest of a store: each round in a fresh process. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { BACKENDS } from "../../src/catalog/backends.ts";
import type { LoadCosts, WorkCosts } from "./backend-process.ts";
import { fact, median, type ResultRow } from "./measure.ts";
import type { Settings } from "./settings.ts";
import type { Workspace } from "./sides.ts";

const MIB = 1024 * 1024;

type BackendCosts = LoadCosts & WorkCosts;

interface Measure {
  readonly part: keyof BackendCosts;
  readonly title: string;
  readonly unit: string;
  readonly factor?: number;
}

const MEASURES: readonly Measure[] = [
  { part: "getUs", title: "read a node of 1 KiB", unit: "us" },
  { part: "missUs", title: "look up a page hash that is not there", unit: "us" },
  { part: "rangeUs", title: "read 100 rows in order", unit: "us" },
  { part: "scanRowsPerSecond", title: "read all rows in order", unit: "rows/s" },
  { part: "commitOneMs", title: "durable commit, 1 row", unit: "ms" },
  { part: "commitHundredMs", title: "durable commit, 100 rows", unit: "ms" },
  { part: "loadRowsPerSecond", title: "load, 2000 rows a commit", unit: "rows/s" },
  { part: "openMs", title: "open and read one row", unit: "ms" },
  { part: "diskBytes", title: "on disk after the load", unit: "MiB", factor: 1 / MIB },
  { part: "diskBytesCompact", title: "on disk after compaction", unit: "MiB", factor: 1 / MIB },
  { part: "memoryBytes", title: "memory that the process gained", unit: "MiB", factor: 1 / MIB },
];

export function benchBackends(workspace: Workspace, settings: Settings): ResultRow[] {
  if (!settings.includes("backends")) return [];
  const nodes = settings.isQuick ? 2000 : 20_000;
  const script = fileURLToPath(new URL("backend-process.js", import.meta.url));
  const rounds = Math.min(settings.rounds, 3);
  const rows: ResultRow[] = [];
  for (const backend of BACKENDS) {
    const runs = Array.from({ length: rounds }, (): BackendCosts => {
      const directory = workspace.path(backend);
      const run = (phase: "load" | "work"): string =>
        execFileSync(
          process.execPath,
          ["--expose-gc", script, backend, directory, String(nodes), phase],
          { encoding: "utf8" },
        );
      const loaded: LoadCosts = JSON.parse(run("load"));
      const worked: WorkCosts = JSON.parse(run("work"));
      return { ...loaded, ...worked };
    });
    for (const { part, title, unit, factor = 1 } of MEASURES) {
      const row = fact(
        {
          item: `backends-${backend}-${part}`,
          title: `${backend}, ${nodes} nodes and ${nodes * 10} page hashes: ${title}`,
          unit,
        },
        median(runs.map((run) => run[part] * factor)),
      );
      settings.show(row);
      rows.push(row);
    }
  }
  return rows;
}
