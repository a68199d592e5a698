/** What is loaded when: the modules that a file imports, and those import, whatever is imported while it runs left out. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root: URL = new URL("../", import.meta.url);
const IMPORT = /^(?:import|export)\s+(?!type\b)(?:[^"';]*?\sfrom\s+)?"([^"]+)";/gm;

/** Files of src/ by their path, packages by their name. */
function loadedBy(entry: string): Set<string> {
  const found = new Set<string>();
  const visit = (path: string): void => {
    if (found.has(path)) return;
    found.add(path);
    const url = new URL(path, root);
    expect(existsSync(url), path).toBe(true);
    for (const [, name = ""] of readFileSync(url, "utf8").matchAll(IMPORT)) {
      if (!name.startsWith(".")) found.add(name);
      else visit(fileURLToPath(new URL(name, url)).slice(fileURLToPath(root).length));
    }
  };
  visit(entry);
  return found;
}

test("the library loads nothing of the server", () => {
  const loaded = [...loadedBy("src/index.ts")];
  expect(loaded).toContain("src/store/store.ts");
  expect(loaded.filter((path) => path.startsWith("src/server/"))).toEqual([]);
  for (const name of ["zod", "ws", "find-my-way"]) expect(loaded).not.toContain(name);
});

test("the server loads the admin API when it is asked, and not before", () => {
  const loaded = [...loadedBy("src/server/serve.ts")];
  expect(loaded).toContain("src/server/http-server.ts");
  expect(loaded).not.toContain("src/server/admin/api.ts");
  expect(loaded).not.toContain("find-my-way");
  expect([...loadedBy("src/server/admin/api.ts")]).toContain("find-my-way");
});

test("the server loads what makes spans when a collector is configured, and not before (X1)", () => {
  const loaded = [...loadedBy("src/server/serve.ts")];
  expect(loaded).toContain("src/server/operations/tracing.ts");
  expect(loaded.filter((name) => name.startsWith("@opentelemetry/"))).toEqual([]);
  expect([...loadedBy("src/server/operations/otel-tracing.ts")]).toContain("@opentelemetry/api");
});
