/**
 * Before a test run: compiles the programs that tests run in other threads and processes, with all that they import, file by file
 * into ".compiled". tsx would take a second or two of each of them. What has not changed since is left as it is.
 */
import { readdirSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";

export const ROOT: string = fileURLToPath(new URL("../..", import.meta.url));
export const OUTPUT: string = join(ROOT, ".compiled");

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
  const changed = ["src", "test", "examples"].flatMap(programsIn).filter(isChanged);
  process.env["BOUGH_TEST_COMPILED"] = OUTPUT;
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
}

function programsIn(folder: string): string[] {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(folder, file));
}

function isChanged(source: string): boolean {
  const compiled = stat(join(OUTPUT, source.replace(/\.ts$/, ".js")));
  return compiled === null || compiled.mtimeMs <= statSync(join(ROOT, source)).mtimeMs;
}

function stat(path: string): Stats | null {
  return statSync(path, { throwIfNoEntry: false }) ?? null;
}
