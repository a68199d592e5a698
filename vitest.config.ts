import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig, type ViteUserConfig } from "vitest/config";
import { compiledModules } from "./src/testing/compiled-modules.ts";

const config: ViteUserConfig = defineConfig({
  plugins: [compiledModules()],
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: "forks",
    // Vitest would leave one core to itself, which on two cores leaves one.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    globalSetup: ["src/testing/compile-setup.ts", "src/testing/s3-server-setup.ts"],
    // Drizzle's driver imports better-sqlite3 by itself: test/drizzle.test.ts lets it find the drop-in.
    alias: {
      "better-sqlite3": fileURLToPath(new URL("src/better-sqlite3.ts", import.meta.url)),
    },
    server: { deps: { inline: ["drizzle-orm"], external: [/[\\/]\.compiled[\\/]/] } },
  },
});

export default config;
