/**
 * Tests import what compile-setup.ts has made of src/, not the sources: Node reads it, where Vite would transform each file and hand it over
 * once for every test file, which takes longer than most tests. Errors show the lines of the sources, by the source maps within.
 *
 * Not while Vitest watches: there it must see which sources a test uses. Test files, and what is only for tests, are left to Vite.
 */
import { existsSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import type { Plugin } from "vitest/config";
import { OUTPUT, ROOT } from "./compile-setup.ts";

const SOURCES: string = join(ROOT, "src") + sep;
const FOR_TESTS: string = join(SOURCES, "testing") + sep;

export function compiledModules(): Plugin {
  let isWatching = false;
  return {
    name: "compiled modules",
    enforce: "pre",
    configureVitest: ({ vitest }) => {
      isWatching = vitest.config.watch;
    },
    resolveId: (source, importer) => {
      if (isWatching || importer === undefined || !/^[./].*\.ts$/.test(source)) return null;
      const file = resolve(dirname(importer), source);
      if (!file.startsWith(SOURCES) || file.startsWith(FOR_TESTS)) return null;
      if (file.endsWith(".test.ts")) return null;
      const compiled = join(OUTPUT, relative(ROOT, file).replace(/\.ts$/, ".js"));
      return existsSync(compiled) ? compiled : null; // What compile-setup.ts itself runs beside is loaded before it has run.
    },
  };
}
