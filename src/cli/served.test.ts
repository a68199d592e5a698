/** What only a command that works through a server can meet. What it does otherwise the other tests here say, on every kind of store. */
import { createHash } from "node:crypto";
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { HttpServer } from "../server/http-server.ts";
import { CollectingStream, CommandDirectory, FakeTerminal } from "../testing/run-command.ts";
import { ed25519Pair, privatePem, publicPem, tokenOf } from "../testing/token-fixture.ts";
import { run } from "./run.ts";

let directory: CommandDirectory;

beforeEach(() => {
  directory = new CommandDirectory();
});

afterEach(async () => {
  await directory.end();
});

const ROWS =
  "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 200000) SELECT x FROM n";

async function failure(...words: readonly string[]): Promise<{ code: string; message: string }> {
  const { stderr, exitCode } = await directory.bough([...words, "--output", "json"]);
  expect(exitCode).not.toBe(0);
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
  return error;
}

/** Reaches the store by its URL from now on. */
async function serveByUrl(): Promise<string> {
  const { url } = await directory.serve();
  directory.env = { BOUGH_URL: url };
  return url;
}

async function makeShop(): Promise<void> {
  await directory.ok(["database", "create", "shop"]);
  await directory.ok(["sql", "shop", "CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES (1), (2)"]);
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("It does not listen");
  return `http://127.0.0.1:${address.port}`;
}

/** Answers every request in one way, for one command. */
async function answeredBy<T>(take: RequestListener, body: (url: string) => Promise<T>): Promise<T> {
  const server = createHttpServer(take);
  try {
    return await body(await listening(server));
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe("which store is meant", () => {
  const url = ["--url", "http://127.0.0.1:1"];

  test("a store and a server at once are wrong usage", async () => {
    directory.env = {};
    const both = await failure(...url, "--store", "x", "database", "list");
    expect(both).toMatchObject({ code: "USAGE", message: expect.stringContaining("--store") });
    directory.env = { BOUGH_URL: "http://127.0.0.1:1", BOUGH_STORE: "x" };
    expect(await failure("database", "list")).toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("BOUGH_URL and BOUGH_STORE"),
    });
    // What the command line says is stronger than the environment.
    await directory.ok(["database", "create", "shop", "--store", directory.file("mine")]);
    expect((await failure(...url, "database", "list")).code).toBe("SERVER_UNREACHABLE");
  });

  test.each([
    [["serve"], "serve"],
    [["remote", "set", "file:///tmp/x"], "upload"],
    [["remote", "unset"], "change the upload of"],
    [["check", "--repair"], "repair"],
    [["store", "convert", "--backend", "lmdb"], "convert"],
    [["store", "set", "--partitions", "2"], "add partitions to"],
    [["token", "key", "create"], ""],
    [["token", "create", "--database", "*", "--access", "ro"], "sign a token for"],
  ])("%j works on the store's directory only", async (words, what) => {
    directory.env = {};
    const { code, message } = await failure(...words, ...url);
    expect(code).toBe("USAGE");
    expect(message).toContain(what);
    expect(message).toContain("run it where the store is, without --url");
  });

  test("options of a store that a command opens are refused with a server", async () => {
    for (const [option, ...value] of [
      ["--key-file", "x"],
      ["--durability", "off"],
      ["--directory", "x"],
      ["--take-over"],
    ] as const)
      expect(await failure("database", "list", ...url, option, ...value)).toMatchObject({
        code: "USAGE",
        message: expect.stringContaining(option),
      });
    const words = ["database", "create", "shop", "--backend", "memory"];
    expect((await failure(...words, ...url)).message).toContain("--backend");
  });

  test("what is no URL of a server is wrong usage, and not shown", async () => {
    for (const text of ["shop", "ftp://host", "http://user:secret@host", "http://host/?t=secret"]) {
      const { code, message } = await failure("database", "list", "--url", text);
      expect(code, text).toBe("USAGE");
      expect(message).not.toContain("secret");
    }
  });
});

describe("a server that is not there, or is another one", () => {
  test("nothing listens, or what listens is no server of bough", async () => {
    const server = createServer((socket) => socket.resume().end("220 mail.example.com ESMTP\r\n"));
    directory.env = { BOUGH_URL: await listening(server) };
    for (const words of [
      ["database", "list"],
      ["sql", "shop", "SELECT 1"],
    ])
      expect((await failure(...words)).code).toBe("SERVER_UNREACHABLE");
    await new Promise((resolve) => {
      server.close(resolve);
    });
    const { code, message } = await failure("database", "list");
    expect(code).toBe("SERVER_UNREACHABLE");
    expect(message).toContain("nothing listens there");
    for (const [status, body] of [
      [200, "<html>hello</html>"],
      [404, "<html>not found</html>"],
    ] as const)
      await answeredBy(
        (_, response) => response.writeHead(status).end(body),
        async (url) => {
          const error = await failure("database", "list", "--url", url);
          expect(error.code).toBe("SERVER_ANSWER_INVALID");
          expect((await failure("sql", "shop", "SELECT 1", "--url", url)).code).toBe(error.code);
        },
      );
  });

  test("the URL of a database is not one of a server, which is said", async () => {
    await makeShop();
    const url = await serveByUrl();
    directory.env = {};
    for (const words of [["database", "list"], ["log", "shop"], ["gc"]])
      expect(await directory.fails(2, [...words, "--url", `${url}/shop`])).toContain(
        "leave the path away",
      );
  });

  test("a server behind a path is reached, and a certificate that nobody vouches for is not", async () => {
    const paths: string[] = [];
    await answeredBy(
      (request, response) => {
        paths.push(request.url ?? "");
        const isServer = request.url?.endsWith("/api/v1/server") ?? false;
        response.end(isServer ? '{"server":"bough","limits":{}}' : '{"items":[],"next":null}');
      },
      async (url) => {
        const words = ["database", "list", "--output", "json"];
        directory.env = { BOUGH_URL: `${url}/databases/` };
        expect(await directory.ok(words)).toBe("[]\n");
      },
    );
    expect(paths).toEqual(["/databases/api/v1/server", "/databases/api/v1/databases?limit=1000"]);
    const tls = {
      tlsCert: "test/fixtures/tls/first.cert.pem",
      tlsKey: "test/fixtures/tls/first.key.pem",
    };
    const { url } = await directory.serve(tls);
    directory.env = { BOUGH_URL: url };
    const { code, message } = await failure("database", "list");
    expect(code).toBe("SERVER_UNREACHABLE");
    expect(message).toMatch(/certificate/);
  });

  test("an answer that breaks off is an error, after the rows that have come", async () => {
    await answeredBy(
      (request, response) => {
        if (request.url?.endsWith("pipeline") === true) {
          const answer = { type: "ok", response: { type: "get_autocommit", is_autocommit: true } };
          response.end(JSON.stringify({ baton: null, base_url: null, results: [answer] }));
          return;
        }
        response.write('{"baton":null,"base_url":null}\n');
        response.write('{"type":"step_begin","step":0,"cols":[{"name":"a","decltype":null}]}\n');
        response.write('{"type":"row","row":[{"type":"integer","value":"7"}]}\n{"type":"r', () =>
          response.destroy(),
        );
      },
      async (url) => {
        const words = ["sql", "shop", "SELECT a FROM t", "--url", url, "--output", "csv"];
        const { exitCode, stdout, stderr } = await directory.bough(words);
        expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "a\r\n7\r\n" });
        expect(stderr).toContain("the connection was lost");
      },
    );
  });

  test("the server stops while the shell is open: the next statement fails, and the shell says so", async () => {
    await makeShop();
    await serveByUrl();
    const terminal = new FakeTerminal();
    const running = run(["shell", "shop"], { ...terminal, env: directory.env });
    const shows = (text: string): Promise<void> =>
      expect.poll(() => terminal.stdout.text, { timeout: 10_000 }).toContain(text);
    await shows("@2> ");
    terminal.stdin.write("BEGIN; INSERT INTO t VALUES (3);\n");
    await shows("@2*> ");
    const path = directory.file("store");
    await directory.stopServing();
    terminal.stdin.write("INSERT INTO t VALUES (4);\n");
    await shows("not connected> ");
    // Or the connection of before was used, before its end had come.
    expect(terminal.stderr.text).toMatch(/nothing listens there|the connection was lost/);
    terminal.stdin.write("\u0004");
    expect(await running).toBe(0);
    const rows = ["sql", "shop", "SELECT count(*) AS n FROM t", "--store", path];
    expect(await directory.json(rows)).toEqual([{ n: 2 }]);
  });
});

describe("tokens", () => {
  const pair = ed25519Pair();
  const secondsFromNow = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;
  let server: HttpServer;
  let url: string;

  beforeEach(async () => {
    await makeShop();
    writeFileSync(directory.file("public.pem"), publicPem(pair));
    writeFileSync(directory.file("private.pem"), privatePem(pair));
    server = await directory.serve({ authKeyFile: [directory.file("public.pem")] });
    url = server.url;
  });

  const withToken = (token: string): void => {
    directory.env = { BOUGH_URL: url, BOUGH_TOKEN: token };
  };

  test("without a token, with a wrong one and with an expired one nothing is told", async () => {
    directory.env = { BOUGH_URL: url };
    const expired = tokenOf(pair, { a: "rw", exp: secondsFromNow(-60) });
    const wrong = tokenOf(ed25519Pair(), { a: "rw", exp: secondsFromNow(60) });
    const words = [
      ["database", "list"],
      ["sql", "shop", "SELECT 1"],
      ["export", "shop", directory.file("out.db")],
      ["gc"],
    ];
    for (const command of words) {
      expect((await failure(...command)).code).toBe("AUTH_REQUIRED");
      for (const [token, code] of [
        [wrong, "AUTH_INVALID"],
        [expired, "AUTH_EXPIRED"],
      ] as const) {
        const result = await directory.bough([...command, "--token", token]);
        expect(result.exitCode).toBe(1);
        expect(result.stdout + result.stderr).not.toContain(token);
        expect((await failure(...command, "--token", token)).code).toBe(code);
      }
    }
    expect(existsSync(directory.file("out.db"))).toBe(false);
  });

  test("a token that only reads reads, and changes nothing", async () => {
    withToken(tokenOf(pair, { a: "ro", exp: secondsFromNow(60) }));
    const sql = async (text: string): Promise<unknown> =>
      await directory.json(["sql", "shop", text]);
    expect(await sql("SELECT count(*) AS n FROM t")).toEqual([{ n: 2 }]);
    expect((await failure("sql", "shop", "DELETE FROM t")).code).toBe("SQLITE_READONLY");
    expect((await failure("branch", "create", "shop/dev")).code).toBe("FORBIDDEN");
    await directory.ok(["export", "shop", directory.file("out.db")]);
    const words = ["import", directory.file("out.db"), "shop"];
    expect((await failure(...words)).code).toBe("FORBIDDEN");
    expect(await sql("SELECT count(*) AS n FROM t")).toEqual([{ n: 2 }]);
    expect(await directory.json(["log", "shop"])).toHaveLength(2);
  });

  test("a token for one branch sees that one only", async () => {
    const store = { env: { BOUGH_STORE: directory.file("store") } };
    await directory.ok(["branch", "create", "shop/dev"], store);
    const create = ["token", "create", "--signing-key", directory.file("private.pem")];
    const scope = ["--database", "shop", "--branch", "dev", "--access", "rw"];
    const token = (await directory.ok([...create, ...scope], store)).trim();
    writeFileSync(directory.file("token"), `${token}\n`);
    directory.env = { BOUGH_URL: url };
    const given = ["--token-file", directory.file("token")];
    expect(await directory.json(["branch", "list", "shop", ...given])).toMatchObject([
      { name: "dev", parent: null },
    ]);
    await directory.ok(["sql", "shop/dev", "DELETE FROM t", ...given]);
    // The hint about expired versions needs more than this token; the log does not.
    expect(await directory.ok(["log", "shop/dev", ...given])).toContain("│       3 │");
    expect((await failure("sql", "shop", "SELECT 1", ...given)).code).toBe("FORBIDDEN");
    expect((await failure("stat", ...given)).code).toBe("FORBIDDEN");
    const both = await failure("stat", ...given, "--token", token);
    expect(both.code).toBe("USAGE");
    expect(both.message).not.toContain(token);
    const bad = await directory.bough(["stat", "--token", "a\nb-secret"]);
    expect(bad.exitCode).toBe(2);
    expect(bad.stderr).not.toContain("secret");
  });

  test("undo lines name the server and the file with the token, never the token", async () => {
    const store = { env: { BOUGH_STORE: directory.file("store") } };
    const create = ["token", "create", "--signing-key", directory.file("private.pem")];
    const scope = ["--database", "*", "--access", "admin"];
    const token = (await directory.ok([...create, ...scope], store)).trim();
    writeFileSync(directory.file("token"), token);
    directory.env = {};
    const server = ["--url", url];
    const made = ["branch", "create", "shop/dev", ...server, "--token", token];
    await directory.ok(made);
    const deleted = ["branch", "delete", "shop/dev", ...server];
    const file = ["--token-file", directory.file("token")];
    expect(await directory.ok([...deleted, ...file])).toContain(
      `bough branch undelete shop/dev --url ${url} --token-file ${directory.file("token")}\n`,
    );
    await directory.ok(made);
    expect(await directory.ok([...deleted, "--token", token])).not.toContain(token);
  });

  test("a stream of the socket goes on while the server looks whose tokens have expired", async () => {
    const stdin = new PassThrough();
    const { stdout, stderr } = new FakeTerminal();
    const running = run(["sql", "shop"], { stdin, stdout, stderr, env: directory.env });
    stdin.write("BEGIN; INSERT INTO t VALUES (3); SELECT 'begun';\n");
    await expect.poll(() => stdout.text, { timeout: 10_000 }).toContain("begun");
    expect(server.streams.size).toBe(1);
    await server.streams.sweep();
    stdin.end("COMMIT;");
    expect(await running).toBe(0);
    expect(stderr.text).toBe("");
    const rows = ["sql", "shop", "SELECT count(*) AS n FROM t"];
    expect(await directory.json(rows)).toEqual([{ n: 3 }]);
  });

  test("the socket asks for no token", async () => {
    expect(await directory.json(["database", "list"])).toHaveLength(1);
    expect(await directory.ok(["gc", "--dry-run"])).toContain("Would free");
    await directory.ok(["sql", "shop", "DELETE FROM t"]);
    // Long work follows the same principal as streams.
    expect(await directory.json(["check", "--deep"])).toMatchObject({ ok: true });
    expect(await directory.json(["scrub", "--rate", "max"])).toMatchObject({ stoppedAt: null });
  });
});

describe("files", () => {
  const hashOf = (path: string): string =>
    createHash("sha256").update(readFileSync(path)).digest("hex");

  test("a large database goes out, in and out again as it was", async () => {
    await makeShop();
    await serveByUrl();
    const insert = `INSERT INTO blob SELECT randomblob(3000) FROM (${ROWS.replace("200000", "3000")})`;
    await directory.ok(["sql", "shop", `CREATE TABLE blob(b); ${insert}`]);
    const [first, second] = [directory.file("first.db"), directory.file("second.db")];
    const exported = await directory.json(["export", "shop", first]);
    expect(exported).toMatchObject({ version: 4, pageSize: 4096, bytes: statSync(first).size });
    expect(await directory.json(["import", first, "copy"])).toMatchObject({
      database: "copy",
      version: 1,
      walCommits: 0,
    });
    await directory.ok(["export", "copy", second]);
    expect(hashOf(second)).toBe(hashOf(first));
    expect((await failure("export", "shop", first)).code).toBe("FILE_EXISTS");
    expect((await failure("export", "shop@99", directory.file("no.db"))).code).toBe(
      "VERSION_NOT_FOUND",
    );
    expect((await failure("export", "none", directory.file("no.db"))).code).toBe(
      "DATABASE_NOT_FOUND",
    );
    expect(readdirSync(directory.path).sort()).toEqual(["first.db", "second.db", "store"]);
  });

  test("the committed changes of a write-ahead log go up with the file", async () => {
    const file = join("test/fixtures/sqlite-wal", walFixture());
    const here = await directory.json(["import", file, "shop"]);
    await directory.serve();
    const { walCommits, ...there } = (await directory.json(["import", file, "copy"])) as {
      walCommits: number;
    };
    expect(here).toMatchObject({
      ...there,
      database: "shop",
      walCommits,
      sharedPages: expect.any(Number),
    });
    expect(walCommits).toBeGreaterThan(0);
    const [a, b] = [directory.file("a.db"), directory.file("b.db")];
    await directory.ok(["export", "shop", a]);
    await directory.ok(["export", "copy", b]);
    expect(hashOf(b)).toBe(hashOf(a));
  });

  test("a file that the server refuses leaves nothing there, and says why", async () => {
    await makeShop();
    await serveByUrl();
    await directory.ok(["export", "shop", directory.file("shop.db")]);
    await directory.ok(["branch", "protect", "shop/main"]);
    expect(await failure("import", directory.file("shop.db"), "shop")).toMatchObject({
      code: "BRANCH_PROTECTED",
    });
    await directory.ok(["database", "create", "small", "--page-size", "512"]);
    expect((await failure("import", directory.file("shop.db"), "small")).code).toBe("PAGE_SIZE");
    writeFileSync(directory.file("text.db"), "hello");
    expect((await failure("import", directory.file("text.db"), "new")).code).toBe("NOT_A_DATABASE");
    expect(readdirSync(directory.file("store/uploads"))).toEqual([]);
    expect(await directory.json(["database", "list"])).toHaveLength(2);
  });

  test("a large file that the server does not want is not sent, and why is told", async () => {
    await makeShop();
    const [file, large, key] = ["shop.db", "large.db", "key.pem"].map((name) =>
      directory.file(name),
    ) as [string, string, string];
    await directory.ok(["export", "shop", file]);
    const pageCount = 20_000;
    const bytes = readFileSync(file);
    bytes.writeUInt32BE(pageCount, 28);
    writeFileSync(large, bytes);
    truncateSync(large, pageCount * 4096);
    const pair = ed25519Pair();
    writeFileSync(key, publicPem(pair));
    const { url } = await directory.serve({ authKeyFile: [key], uploadBytesMax: 1_000_000 });
    const exp = Math.floor(Date.now() / 1000) + 600;
    const codes: string[] = [];
    for (const a of ["ro", "rw", "ro", "rw"]) {
      directory.env = { BOUGH_URL: url, BOUGH_TOKEN: tokenOf(pair, { a, exp }) };
      codes.push((await failure("import", large, "shop")).code);
    }
    expect(codes).toEqual(["FORBIDDEN", "REQUEST_TOO_LARGE", "FORBIDDEN", "REQUEST_TOO_LARGE"]);
  });

  test("an upload that is too large is refused by the server's limit", async () => {
    await makeShop();
    await directory.ok(["export", "shop", directory.file("shop.db")]);
    const { url } = await directory.serve({ uploadBytesMax: 4096 });
    directory.env = { BOUGH_URL: url };
    const error = await failure("import", directory.file("shop.db"), "copy");
    expect(error.code).toBe("REQUEST_TOO_LARGE");
  });
});

describe("SQL", () => {
  test("a database with the name of a path of the server is reached", async () => {
    await serveByUrl();
    for (const name of ["api", "v2", "health"]) {
      await directory.ok(["database", "create", name]);
      await directory.ok(["sql", name, "CREATE TABLE t(a)"]);
      await directory.ok(["branch", "create", `${name}/a/v2`]);
      expect(await directory.json(["sql", `${name}/a/v2@1`, "SELECT bough_branch() AS b"])).toEqual(
        [{ b: "a/v2" }],
      );
    }
  });

  test("a change that returns rows prints them when it is done, and none when it fails", async () => {
    await makeShop();
    await serveByUrl();
    const insert = `INSERT INTO t SELECT x + 10 FROM (${ROWS}) RETURNING a`;
    const { stdout } = await directory.bough(["sql", "shop", insert, "--output", "csv"]);
    expect(stdout.split("\r\n")).toHaveLength(200_002);
    const again = await directory.bough(["sql", "shop", insert, "--output", "csv"]);
    expect(again).toMatchObject({ exitCode: 1, stdout: "" });
    expect(again.stderr).toContain("UNIQUE constraint failed");
    expect((await failure("sql", "shop", insert)).code).toBe("SQLITE_CONSTRAINT_UNIQUE");
    // This one is found at the commit, after SQLite has given the rows.
    const late = `PRAGMA foreign_keys = ON;
      CREATE TABLE child(a REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED);
      INSERT INTO child SELECT x + 1000000 FROM (${ROWS}) RETURNING a`;
    const refused = await directory.bough(["sql", "shop", late, "--output", "csv"]);
    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toContain("FOREIGN KEY constraint failed");
  });

  test("a reader that leaves early ends a query, and not a transaction", async () => {
    await makeShop();
    await serveByUrl();
    const leaving = async (sql: string): Promise<void> => {
      const stdout = new LeavingStream();
      const { stdin, stderr } = new FakeTerminal();
      const words = ["sql", "shop", sql, "--output", "csv"];
      expect(await run(words, { stdin, stdout, stderr, env: directory.env })).toBe(0);
    };
    await leaving(`${ROWS.replace("200000", "100000000")}; INSERT INTO t VALUES (3)`);
    await leaving(`BEGIN; INSERT INTO t VALUES (4); ${ROWS}; INSERT INTO t VALUES (5); COMMIT`);
    expect(await directory.json(["sql", "shop", "SELECT count(*) AS n FROM t"])).toEqual([
      { n: 5 },
    ]);
  });

  test("a transaction that takes too long is rolled back, and the shell goes on after it", async () => {
    await makeShop();
    const { url } = await directory.serve({ transactionMs: 1 });
    directory.env = { BOUGH_URL: url };
    const late = ["sql", "shop", `BEGIN; INSERT INTO t VALUES (3); ${ROWS}; COMMIT`];
    expect((await failure(...late)).code).toBe("TRANSACTION_TIMEOUT");
    expect(await directory.json(["sql", "shop", "SELECT count(*) AS n FROM t"])).toEqual([
      { n: 2 },
    ]);
  });

  test("what statements leave behind stays for the next: attached databases, temporary tables", async () => {
    await makeShop();
    await serveByUrl();
    const sql =
      "ATTACH 'shop@1' AS old; CREATE TEMP TABLE x AS SELECT 5 AS a; SELECT (SELECT count(*) FROM old.t) AS was, a FROM x";
    expect(await directory.json(["sql", "shop", sql])).toEqual([{ was: 0, a: 5 }]);
  });
});

describe("the socket", () => {
  test("is there while the server runs, for its owner only, and then not", async () => {
    await makeShop();
    const path = directory.file("store/server.sock");
    await directory.serve();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await directory.json(["database", "list"])).toHaveLength(1);
    await directory.stopServing();
    expect(existsSync(path)).toBe(false);
    expect(await directory.json(["database", "list"])).toHaveLength(1);
  });

  test("a database is handed over while it is served, and its revisions lead to it", async () => {
    await makeShop();
    await directory.ok(["store", "set", "--partitions", "2"]);
    await directory.serve();
    const rows = ["sql", "shop", "SELECT count(*) AS n FROM t"];
    expect(await directory.json(rows)).toEqual([{ n: 2 }]);
    const words = ["database", "hand-over", "shop", "--partition"];
    await directory.ok([...words, "1"]);
    expect(await directory.json(["database", "list"])).toMatchObject([{ partition: 1 }]);
    expect(await directory.json(rows)).toEqual([{ n: 2 }]);
    expect((await failure(...words, "2")).message).toContain("the store has 2, from 0 on");
  });

  test("a directory whose path is too long for a socket is served without, and the log says so", async () => {
    const deep = directory.file(`${"a".repeat(60)}/${"b".repeat(60)}`);
    await directory.ok(["database", "create", "shop", "--store", deep]);
    const lines: string[] = [];
    const server = await directory.serve({}, { path: deep, writeLog: (line) => lines.push(line) });
    expect(server.url).toContain("http://");
    expect(lines.join("")).toContain("its path is too long");
    expect((await failure("database", "list", "--store", deep)).code).toBe("STORE_LOCKED");
  });
});

function walFixture(): string {
  const name = readdirSync("test/fixtures/sqlite-wal").find((each) => each.endsWith(".db"));
  if (name === undefined) throw new Error("There is no fixture");
  return name;
}

/** A pipe whose reader goes after the first piece. */
class LeavingStream extends CollectingStream {
  override _write(_chunk: string | Buffer, _encoding: string, done: (error?: Error) => void): void {
    done(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
  }
}
