/**
 * Before a test run: compiles the programs that tests run in other threads and processes, with all that they import, file by file
 * into ".compiled". tsx would take a second or two of each of them. What has not changed since is left as it is: it has its source's time.
 */
import { existsSync, readdirSync, rmSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";

export const ROOT: string = fileURLToPath(new URL("../..", import.meta.url));
export const OUTPUT: string = join(ROOT, ".compiled");

const FOLDERS = ["src", "test", "examples"];

/** Modules stay files of their own, under the names that the compiled ones have. */
const apart: Plugin = {
  name: "modules apart",
  setup: (bundler) => {
    bundler.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, kind }) =>
      kind === "entry-point" ? null : { path: path.replace(/\.ts$/, ".js"), external: true },
    );
  },
};

export async function setup(): Promise<void> {
  const changed = FOLDERS.flatMap(programsIn).filter(isChanged);
  process.env["BOUGH_TEST_COMPILED"] = OUTPUT;
  removeOrphans();
  if (changed.length === 0) return;
  await build({
    absWorkingDir: ROOT,
    entryPoints: changed,
    outbase: ROOT,
    outdir: OUTPUT,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    plugins: [apart],
  });
  for (const source of changed) {
    const { atime, mtime } = statSync(join(ROOT, source));
    utimesSync(compiledOf(source), atime, mtime);
  }
}

/** A source that is gone is not to be found. */
function removeOrphans(): void {
  if (!existsSync(OUTPUT)) return;
  for (const file of readdirSync(OUTPUT, { recursive: true, encoding: "utf8" }))
    if (file.endsWith(".js") && !existsSync(join(ROOT, file.replace(/\.js$/, ".ts"))))
      rmSync(join(OUTPUT, file));
}

function programsIn(folder: string): string[] {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(folder, file));
}

/** Also one that was put back with the time of before. */
function isChanged(source: string): boolean {
  const compiled = statSync(compiledOf(source), { throwIfNoEntry: false });
  if (compiled === undefined) return true;
  return Math.abs(compiled.mtimeMs - statSync(join(ROOT, source)).mtimeMs) > 1;
}

function compiledOf(source: string): string {
  return join(OUTPUT, source.replace(/\.ts$/, ".js"));
}
