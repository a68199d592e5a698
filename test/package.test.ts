/** The package as it is published: built, and used from other processes by its own name, with import and require. */
import { execFile, execFileSync } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openStore } from "../src/store/store.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
let directory: string;

beforeAll(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-package-"));
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  const parameters = ["-p", join(root, "tsconfig.build.json"), "--outDir", join(directory, "dist")];
  execFileSync(process.execPath, [compiler, ...parameters], { stdio: "pipe" });
  fs.copyFileSync(join(root, "package.json"), join(directory, "package.json"));
  fs.symlinkSync(join(root, "node_modules"), join(directory, "node_modules"), "dir");
});
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

/** What a program prints; its name decides whether it is a module or CommonJS. */
function run(name: string, source: string): string[] {
  const file = join(directory, name);
  fs.writeFileSync(file, source);
  const output = execFileSync(process.execPath, [file], {
    cwd: directory,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  return output.trim().split("\n");
}

describe("bough/better-sqlite3", () => {
  test("is the class itself for require", () => {
    const printed = run(
      "required.cjs",
      `const Database = require("bough/better-sqlite3");
       console.log(typeof Database, Database.length >= 0, typeof Database.SqliteError);
       const db = new Database("required.db");
       db.exec("CREATE TABLE t(a)");
       db.prepare("INSERT INTO t VALUES (?)").run("from CommonJS");
       console.log(db instanceof Database, db.prepare("SELECT a FROM t").pluck().get());
       try { db.exec("INSERT INTO none VALUES (1)") }
       catch (error) { console.log(error instanceof Database.SqliteError, error.code) }
       db.close();
       console.log(Database(":memory:") instanceof Database);`,
    );
    expect(printed).toEqual([
      "function true function",
      "true from CommonJS",
      "true SQLITE_ERROR",
      "true",
    ]);
  });

  test("is the default for import, and finds what require wrote", () => {
    const printed = run(
      "imported.mjs",
      `import Database, { SqliteError } from "bough/better-sqlite3";
       const db = new Database("required.db", { fileMustExist: true });
       console.log(db.prepare("SELECT a FROM t").pluck().get(), Database.SqliteError === SqliteError);`,
    );
    expect(printed).toEqual(["from CommonJS true"]);
  });
});

describe("bough", () => {
  test("opens a store for import and require", () => {
    const program = `
      const store = openStore("store");
      const shop = store.databases()[0] ?? store.createDatabase("shop");
      const db = store.connect("shop");
      db.exec("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (1)");
      console.log(db.prepare("SELECT count(*) FROM t").pluck().get(), shop.branch().log().length);
      store.close();`;
    expect(run("store.mjs", `import { openStore } from "bough"; ${program}`)).toEqual(["1 2"]);
    expect(run("store.cjs", `const { openStore } = require("bough"); ${program}`)).toEqual(["2 3"]);
  });

  test("owns databases in threads, which do not keep a process alive that forgets to close", () => {
    const program = `
      const store = openStore("threads", { threads: 2 });
      (async () => {
        if ((await store.databases()).length === 0) await store.createDatabase("shop");
        const db = await store.open("shop");
        await db.exec("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (1)");
        console.log(await (await db.prepare("SELECT count(*) FROM t")).pluck().get());
        console.log(await db.exec("INSERT INTO none VALUES (1)").catch((error) => error.code));
      })();`;
    const imported = run("threads.mjs", `import { openStore } from "bough"; ${program}`);
    expect(imported).toEqual(["1", "SQLITE_ERROR"]);
    const required = run("threads.cjs", `const { openStore } = require("bough"); ${program}`);
    expect(required).toEqual(["2", "SQLITE_ERROR"]);
  });

  test("is made once by processes that all make the same store, and keeps what each wrote", async () => {
    fs.writeFileSync(
      join(directory, "rival.mjs"),
      `import { openStore } from "bough";
       const pause = new Int32Array(new SharedArrayBuffer(4));
       for (;;) {
         try {
           const store = openStore("contested", { backend: "memory" });
           store.createDatabase(process.argv[2]);
           store.close();
           break;
         } catch (error) {
           if (error.code !== "STORE_LOCKED") throw error;
           Atomics.wait(pause, 0, 0, 2);
         }
       }`,
    );
    const names = ["a", "b", "c", "d"];
    const start = promisify(execFile);
    await Promise.all(
      names.map((name) => start(process.execPath, ["rival.mjs", name], { cwd: directory })),
    );
    const store = openStore(join(directory, "contested"));
    expect(store.databases().map(({ name }) => name)).toEqual(names);
    store.close();
  });

  test("ends by itself with open stores, and the next process can open them", () => {
    run(
      "leave.mjs",
      `import { openStore } from "bough";
       const store = openStore("left");
       store.createDatabase("shop");
       store.connect("shop").exec("CREATE TABLE t(a)");`,
    );
    const printed = run(
      "after.mjs",
      `import { openStore } from "bough";
       const store = openStore("left");
       console.log(store.connect("shop").prepare("SELECT count(*) FROM t").pluck().get());`,
    );
    expect(printed).toEqual(["0"]);
  });

  test("loads nothing of the server's libraries, nor does the command line before it serves", () => {
    const hook = `export async function resolve(specifier, context, next) {
      if (/^(?:zod|ws|find-my-way|jose|pino|prom-client|smol-toml)$/.test(specifier)) throw new Error("loads " + specifier);
      return next(specifier, context);
    }`;
    const printed = run(
      "light.mjs",
      `import { register } from "node:module";
       register("data:text/javascript," + encodeURIComponent(${JSON.stringify(hook)}));
       for (const name of ["bough", "bough/better-sqlite3", "./dist/cli/program.js", "./dist/server/serve.js"])
         await import(name).then(() => console.log("light"), (error) => console.log(error.message));`,
    );
    expect(printed.slice(0, 3)).toEqual(["light", "light", "light"]);
    expect(printed[3]).toMatch(/^loads (?:ws|zod)$/);
  });
});
