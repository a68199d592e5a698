// npm run bench -- [--only point-read,insert] [--rounds N] [--quick]
//
// Installs the benchmarks' own packages when needed (better-sqlite3 is compiled then), compiles the library and the
// benchmarks with tsc, and runs them. Under Node 22 and later better-sqlite3 13 takes the place of 12.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const benchmarks = path.join(root, "benchmarks");

if (process.argv.includes("--help")) {
  process.stdout.write(
    "npm run bench -- [--only NAMES] [--rounds N] [--quick]\n\n" +
      "  --only    items whose names begin so: point-read, rows, scan, aggregate, order-by, text, insert, commit,\n" +
      "            writers, sustained, concurrent-update, concurrent-insert-one, concurrent-insert-random,\n" +
      "            concurrent-insert-many, concurrent-read, concurrent-interactive (each followed by -1, -8 or -64\n" +
      "            clients), tracking, branch-create, depth, open, import, stored, backends, gc, remote,\n            many-databases, server\n" +
      "  --rounds  rounds per item and side, 7 by default\n" +
      "  --quick   less data, 3 rounds, nothing that needs the 1 GiB database\n",
  );
  process.exit(0);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit", cwd: root, ...options });
  if (error) throw error;
  return status ?? 1;
}

/** `npm ci` unless what the lock file names is there, built for this Node. */
function install(directory) {
  const installed = path.join(directory, "node_modules/.package-lock.json");
  const marker = path.join(directory, "node_modules/.node-modules-version");
  const lock = fs.statSync(path.join(directory, "package-lock.json")).mtimeMs;
  const abi = process.versions.modules;
  const isCurrent =
    fs.existsSync(installed) &&
    fs.existsSync(marker) &&
    fs.statSync(marker).mtimeMs >= lock &&
    fs.readFileSync(marker, "utf8") === abi;
  if (isCurrent) return;
  const status = run("npm", ["ci", "--foreground-scripts"], { cwd: directory });
  if (status !== 0) process.exit(status);
  fs.writeFileSync(marker, abi);
}

// The types of better-sqlite3 are in the first package; on Node 22 and later its compiled part is not needed.
const isNew = Number(process.versions.node.split(".")[0]) >= 22;
if (isNew) {
  install(path.join(benchmarks, "node-22"));
  if (!fs.existsSync(path.join(benchmarks, "node_modules")))
    run("npm", ["ci", "--ignore-scripts"], { cwd: benchmarks });
} else install(benchmarks);

const tsc = path.join(root, "node_modules/typescript/bin/tsc");
if (run(process.execPath, [tsc, "-p", path.join(benchmarks, "tsconfig.json")]) !== 0)
  process.stderr.write("The types are not in order (see above); the benchmarks run all the same\n");

const main = path.join(benchmarks, ".build/benchmarks/src/main.js");
process.exit(
  run(process.execPath, ["--expose-gc", ...process.execArgv, main, root, ...process.argv.slice(2)]),
);
