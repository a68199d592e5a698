/** The table for people and the JSON for programs. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { ResultRow } from "./measure.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  readonly betterSqlite3: string;
  readonly sqlite: string;
}

export function describeMachine(betterSqlite3: string, sqlite: string): Machine {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model ?? "unknown",
    cores: cpus.length,
    memoryGiB: Math.round(os.totalmem() / 1024 ** 3),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    betterSqlite3,
    sqlite,
  };
}

const TITLE_WIDTH = 84;

export function tableHeader(): string {
  return line(["", "bough", "baseline", "ratio", "wanted", ""]);
}

export function tableLine(row: ResultRow): string {
  const baseline = row.baseline === null ? "" : withUnit(row.baseline, row.unit);
  const ratio = row.ratio === null ? "" : `${row.ratio.toFixed(2)}x`;
  const verdict = row.isMet === null ? "" : row.isMet ? "met" : "NOT MET";
  const named =
    row.baselineName === "" || row.baselineName === "better-sqlite3"
      ? ""
      : ` (${row.baselineName})`;
  return line([
    row.title + named,
    withUnit(row.bough, row.unit),
    baseline,
    ratio,
    row.wanted,
    row.detail === undefined ? verdict : `${verdict.padEnd(8)} ${row.detail}`,
  ]);
}

function line([title = "", ...cells]: string[]): string {
  const [bough = "", baseline = "", ratio = "", wanted = "", verdict = ""] = cells;
  return `${title.padEnd(TITLE_WIDTH)} ${bough.padStart(18)} ${baseline.padStart(18)} ${ratio.padStart(8)} ${wanted.padStart(9)}  ${verdict}`.trimEnd();
}

function withUnit(value: number, unit: string): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3;
  return `${value.toLocaleString("en", { maximumFractionDigits: digits })} ${unit}`;
}

/** Returns the file's path. */
export function writeJson(root: string, machine: Machine, rows: readonly ResultRow[]): string {
  const directory = path.join(root, "benchmarks/results");
  fs.mkdirSync(directory, { recursive: true });
  const at = new Date().toISOString();
  const file = path.join(
    directory,
    `${at.replaceAll(":", "-").slice(0, 19)}-node${process.versions.node.split(".")[0]}.json`,
  );
  fs.writeFileSync(file, `${JSON.stringify({ at, machine, rows }, null, 2)}\n`);
  return file;
}
