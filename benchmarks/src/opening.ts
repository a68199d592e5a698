/** Opening a store with a 1 GiB database, each time in a fresh process. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { largeStore } from "./large-store.ts";
import { fact, median, type ResultRow } from "./measure.ts";
import type { OpeningTimes } from "./open-store-process.ts";
import type { Settings } from "./settings.ts";
import type { Sides } from "./sides.ts";

export function benchOpening(sides: Sides, settings: Settings): ResultRow[] {
  if (!settings.includes("open-1gib") || settings.isQuick) return [];
  const directory = largeStore(sides.workspace);
  const script = fileURLToPath(new URL("open-store-process.js", import.meta.url));
  const runs: OpeningTimes[] = [];
  for (let round = 0; round < settings.rounds; round++)
    runs.push(
      JSON.parse(execFileSync(process.execPath, [script, directory], { encoding: "utf8" })),
    );
  const of = (part: keyof OpeningTimes): number => median(runs.map((run) => run[part]));
  const total = median(runs.map((run) => run.openMs + run.connectMs + run.queryMs));
  const rows = [
    fact(
      {
        item: "open-1gib",
        title: "Open a store with a 1 GiB database, connect, first query; fresh process",
        unit: "ms",
      },
      total,
    ),
    fact({ item: "open-1gib-open", title: "  openStore", unit: "ms" }, of("openMs"), { max: 50 }),
    fact(
      {
        item: "open-1gib-connect",
        title: "  connect, with compiling SQLite's WebAssembly",
        unit: "ms",
      },
      of("connectMs"),
    ),
    fact({ item: "open-1gib-query", title: "  first query", unit: "ms" }, of("queryMs")),
  ];
  for (const row of rows) settings.show(row);
  return rows;
}
