/** Who may do what on a server with tokens, over real HTTP and WebSockets, with the real clients. What no token allows is denied. */
import { createClient as createHttpClient } from "@libsql/client/http";
import { createClient as createWsClient } from "@libsql/client/ws";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Access } from "../src/server/access.ts";
import { scope, TokenWorld } from "./server-tokens.ts";
import { execute, ServedDirectory, sqls } from "./server-fixture.ts";
import { SharedThreads } from "./shared-threads.ts";

let world: TokenWorld;
let slow: Access;
let served: ServedDirectory;
let threads: SharedThreads | null = null;

beforeEach(async () => {
  world = new TokenWorld();
  served = await ServedDirectory.start({}, {}, world.access(), threads?.store);
  const { admin } = served;
  for (const name of ["shop", "other"]) {
    await admin.createDatabase(name, {});
    await served.exec(name, `CREATE TABLE t(a); INSERT INTO t VALUES ('${name}')`);
  }
  for (const branch of ["preview/a", "secret"]) await admin.createBranch("shop", branch, {});
});

afterEach(async () => {
  await served[Symbol.asyncDispose]();
  world[Symbol.dispose]();
  expect(served.bugs).toEqual([]);
});

interface Question {
  /** "": none. */
  readonly token: string;
  readonly revision: string;
  readonly sql: string;
}

type Ask = (question: Question) => Promise<string>;

function headers(token: string): Record<string, string> {
  return token === "" ? {} : { authorization: `Bearer ${token}` };
}

/** "ok", or the code of what it failed with, wherever that stands. */
function codeOf(text: string): string {
  return /"code":"([A-Z_]+)"/.exec(text)?.[1] ?? "ok";
}

function posting(call: string, body: (sql: string) => object): Ask {
  return async ({ token, revision, sql }) => {
    const { text } = await served.post(`/${revision}/${call}`, body(sql), headers(token));
    return codeOf(text);
  };
}

const askSocket: Ask = async ({ token, revision, sql }) => {
  const socket = new WebSocket(served.url(revision).replace("http:", "ws:"), ["hrana2"]);
  let text = "";
  socket.on("message", (data: Buffer) => {
    text += data.toString();
    if (text.includes('"request_id":2') || text.includes("hello_error")) socket.close();
  });
  socket.on("open", () => {
    const run = { type: "execute", stream_id: 1, stmt: { sql } };
    for (const message of [
      { type: "hello", jwt: token === "" ? null : token },
      { type: "request", request_id: 1, request: { type: "open_stream", stream_id: 1 } },
      { type: "request", request_id: 2, request: run },
    ])
      socket.send(JSON.stringify(message));
  });
  await once(socket, "close");
  return codeOf(text);
};

const batch = (sql: string): object => ({ batch: { steps: [{ stmt: { sql } }] } });
const askPipeline = posting("v2/pipeline", (sql) => sqls(sql));
const ENDPOINTS: readonly (readonly [string, Ask])[] = [
  ["v2/pipeline", askPipeline],
  [
    "v3/pipeline",
    posting("v3/pipeline", (sql) => ({ requests: [{ type: "batch", ...batch(sql) }] })),
  ],
  ["v3/cursor", posting("v3/cursor", batch)],
  ["v1/execute", posting("v1/execute", (sql) => ({ stmt: { sql } }))],
  ["v1/batch", posting("v1/batch", batch)],
  ["the URL itself", posting("", (sql) => ({ statements: [sql] }))],
  ["WebSocket", askSocket],
];

/** What there is, and what there is not. */
const PLACES = ["shop", "shop/preview/a", "shop/secret", "shop/none", "other", "none"] as const;
type Place = (typeof PLACES)[number];
type Level = "read" | "write";

interface Case {
  readonly claims: object;
  /** What is left out is denied. */
  readonly allows: Partial<Record<Place, Level>>;
}

const SHOP = (level: Level): Case["allows"] => ({
  shop: level,
  "shop/preview/a": level,
  "shop/secret": level,
  "shop/none": level,
});

const TOKENS: Readonly<Record<string, Case>> = {
  nothing: { claims: {}, allows: {} },
  "shop, read": { claims: scope("shop", "**", "ro"), allows: SHOP("read") },
  "previews of shop, write": {
    claims: scope("shop", "preview/*", "rw"),
    allows: { "shop/preview/a": "write" },
  },
  "main of every database, read": {
    claims: scope("*", "main", "ro"),
    allows: { shop: "read", other: "read", none: "read" },
  },
  "other, write, and main of shop, read": {
    claims: {
      bough: [
        { database: "other", branch: "**", access: "rw" },
        { database: "shop", branch: "main", access: "ro" },
      ],
    },
    allows: { other: "write", shop: "read" },
  },
  "libSQL's, read of other": { claims: { a: "ro", id: "other" }, allows: { other: "read" } },
  "libSQL's, write of shop": { claims: { p: { rw: { ns: ["shop"] } } }, allows: SHOP("write") },
  everything: {
    claims: scope("*", "**", "admin"),
    allows: { ...SHOP("write"), other: "write", none: "write" },
  },
};

const MISSING: Partial<Record<Place, string>> = {
  none: "DATABASE_NOT_FOUND",
  "shop/none": "BRANCH_NOT_FOUND",
};

function expected(place: Place, allowed: Level | undefined, wanted: Level): string {
  if (allowed === undefined) return "FORBIDDEN";
  const missing = MISSING[place];
  if (missing !== undefined) return missing;
  return wanted === "write" && allowed === "read" ? "SQLITE_READONLY" : "ok";
}

function matrix(ask: Ask): void {
  test.each(Object.entries(TOKENS))("with a token for %s", async (_name, { claims, allows }) => {
    const token = await world.token(claims);
    const answers: Record<string, string> = {};
    const wanted: Record<string, string> = {};
    const works = { read: "SELECT a FROM t", write: "INSERT INTO t VALUES (1)" };
    for (const revision of PLACES)
      for (const level of ["read", "write"] as const) {
        answers[`${level} ${revision}`] = await ask({ token, revision, sql: works[level] });
        wanted[`${level} ${revision}`] = expected(revision, allows[revision], level);
      }
    expect(answers).toEqual(wanted);
  });

  test("without a token, and with one that is none", async () => {
    for (const revision of PLACES) {
      const sql = "SELECT a FROM t";
      expect(await ask({ token: "", revision, sql }), revision).toBe("AUTH_REQUIRED");
      expect(await ask({ token: "a.b.c", revision, sql }), revision).toBe("AUTH_INVALID");
    }
  });
}

describe.each(ENDPOINTS)("tokens x databases x branches by %s", (_, ask) => matrix(ask));

describe("tokens x databases x branches, each database in a thread of its own", () => {
  beforeAll(async () => {
    threads = await SharedThreads.open();
  });
  afterAll(async () => {
    await threads?.[Symbol.asyncDispose]();
    threads = null;
  });

  matrix(askPipeline);

  test("ATTACH: a database that the token does not allow is refused like one that is not there, one of another thread is told", async () => {
    const all = await world.token(scope("*", "**", "rw"));
    const shop = await world.token(scope("shop", "**", "rw"));
    const attach = async (token: string, name: string): Promise<string> =>
      await askPipeline({ token, revision: "shop", sql: `ATTACH '${name}' AS more` });
    expect([await attach(shop, "other"), await attach(shop, "none")]).toEqual([
      "FORBIDDEN",
      "FORBIDDEN",
    ]);
    expect([await attach(all, "other"), await attach(all, "none")]).toEqual([
      "OTHER_PARTITION",
      "DATABASE_NOT_FOUND",
    ]);
    expect(await attach(shop, "shop/secret")).toBe("ok");
  });
});

test("refusals say how to authenticate, and anybody is told which protocols there are only", async () => {
  const { url } = served.server;
  for (const path of ["/", "/v2", "/v3", "/shop/v2", "/none/v3", "/none/none"])
    expect((await fetch(url + path)).status, path).toBe(200);
  for (const path of [
    "/api/v1/server",
    "/api/v1/openapi.json",
    "/metrics",
    "/v3-protobuf",
    "/shop/v2/pipeline",
  ]) {
    const response = await fetch(url + path);
    expect(response.status, path).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe('Bearer realm="bough"');
  }
  const bad = await fetch(`${url}/api/v1/server`, { headers: headers("a.b.c") });
  expect([bad.status, bad.headers.get("www-authenticate")]).toEqual([
    401,
    'Bearer realm="bough", error="invalid_token"',
  ]);
  const nothing = await world.token({});
  const inUrl = await served.post(`/shop/v2/pipeline?authToken=${nothing}`, sqls("SELECT 1"));
  expect([inUrl.status, inUrl.body.code]).toEqual([401, "AUTH_INVALID"]);
  const forbidden = await served.post("/shop/v2/pipeline", sqls("SELECT 1"), headers(nothing));
  expect(forbidden.status).toBe(403);
});

test("the admin API and the metrics are for the tokens that allow it, the probes for anybody", async () => {
  const ask = async (method: string, path: string, token: string): Promise<string> => {
    const body = method === "POST" ? '{"name":"made"}' : null;
    const type = { "content-type": "application/json" };
    const response = await fetch(`${served.url("")}${path}`, {
      method,
      body,
      headers: { ...headers(token), ...(body === null ? {} : type) },
    });
    return `${response.status} ${codeOf(await response.text())}`;
  };
  const [none, all] = [await world.token({}), await world.token(scope("*", "**", "admin"))];
  const [writer, shop] = [
    await world.token({ a: "rw" }),
    await world.token(scope("shop", "**", "admin")),
  ];
  for (const [method, path] of [
    ["POST", "api/v1/databases"],
    ["GET", "metrics"],
  ] as const) {
    expect(await ask(method, path, "")).toBe("401 AUTH_REQUIRED");
    expect(await ask(method, path, "no.token.this")).toBe("401 AUTH_INVALID");
    for (const token of [none, writer, shop])
      expect(await ask(method, path, token)).toBe("403 FORBIDDEN");
    expect(await ask(method, path, all)).toBe(method === "POST" ? "201 ok" : "200 ok");
  }
  for (const path of ["api/v1/openapi.json", "api/v1/jobs", "api/v1/databases"])
    expect(await ask("GET", path, "")).toBe("401 AUTH_REQUIRED");
  expect(await ask("DELETE", "api/v1/databases/other", shop)).toBe("403 FORBIDDEN");
  expect(await ask("GET", "api/v1/databases/shop", shop)).toBe("200 ok");
  for (const path of ["health", "ready"]) expect(await ask("GET", path, "")).toBe("200 ok");
  const refused = await fetch(served.url("api/v1/databases"));
  expect(refused.headers.get("www-authenticate")).toBe('Bearer realm="bough"');
  expect(refused.headers.get("content-type")).toBe("application/problem+json");
});

describe("what SQL reaches", () => {
  test("ATTACH: what the token allows and no more, however it is written", async () => {
    const mine = await world.token({
      bough: [
        { database: "shop", branch: "preview/*", access: "rw" },
        { database: "other", branch: "main", access: "ro" },
      ],
    });
    const path = "/shop/preview/a/v2/pipeline";
    const run = async (...statements: string[]): Promise<string> =>
      codeOf((await served.post(path, sqls(...statements), headers(mine))).text);
    const attach = "ATTACH 'other' AS o";
    expect(await run(attach, "SELECT a FROM o.t", "INSERT INTO t SELECT a FROM o.t")).toBe("ok");
    expect(await run(attach, "INSERT INTO o.t VALUES (1)")).toBe("READ_ONLY");
    // A transaction that locks everything that is attached goes on.
    expect(await run(attach, "BEGIN IMMEDIATE", "INSERT INTO t VALUES (2)", "COMMIT")).toBe("ok");
    for (const sql of [
      "ATTACH 'shop' AS s",
      "/* */ aTTach\n'shop/secret' AS s",
      "ATTACH 'sh' || 'op' AS s",
      "ATTACH (SELECT 'shop/secret') AS s",
      "ATTACH 'shop@1' AS s",
      "ATTACH 'none' AS s",
      "ATTACH 'other/none' AS s",
      "VACUUM INTO 'shop/secret'",
      "VACUUM INTO 'none'",
    ])
      expect(await run(sql), sql).toBe("FORBIDDEN");
    expect(await run("ATTACH 'shop/preview/a@1' AS s", "SELECT a FROM s.t")).toBe("ok");
    const stmt = { sql: "ATTACH ? AS s", args: [{ type: "text", value: "shop/secret" }] };
    const requests = [
      { type: "execute", stmt },
      { type: "sequence", sql: "ATTACH 'shop' AS x" },
    ];
    const { body } = await served.post(path, { requests }, headers(mine));
    const codes = body.results.map(({ error }: { error: { code: string } }) => error.code);
    expect(codes).toEqual(["FORBIDDEN", "FORBIDDEN"]);
    using other = served.store.connect("other");
    expect(other.prepare("SELECT count(*) FROM t").pluck().get()).toBe(1);
  });

  test("what the one before might attach, or had prepared, is not the next one's", async () => {
    const all = headers(await world.token(scope("*", "**", "rw")));
    const preview = headers(await world.token(scope("shop", "preview/*", "rw")));
    const attach = sqls("ATTACH 'other' AS o", "SELECT a FROM o.t", "DETACH o");
    const path = "/shop/preview/a/v3/pipeline";
    expect(codeOf((await served.post(path, attach, all)).text)).toBe("ok");
    const { body } = await served.post(path, attach, preview);
    expect(body.results[0].error.code).toBe("FORBIDDEN");
    expect(codeOf((await served.post(path, attach, all)).text)).toBe("ok");
  });

  test("regression: a branch that is renamed takes its streams with it only where the token goes", async () => {
    const shop = served.store.database("shop");
    shop.createBranch("preview/moved");
    const mine = headers(await world.token(scope("shop", "preview/*", "rw")));
    const path = "/shop/preview/moved/v2/pipeline";
    const first = await served.post(path, { requests: [execute("SELECT 1")] }, mine);
    const run = async (baton: string, sql: string): Promise<[string, string]> => {
      const { body } = await served.post(path, { baton, requests: [execute(sql)] }, mine);
      return [body.results[0].error?.code ?? "ok", body.baton];
    };
    shop.branch("preview/moved").rename("preview/again");
    const [again, second] = await run(first.body.baton, "INSERT INTO t VALUES (3)");
    expect(again).toBe("ok");
    shop.branch("preview/again").rename("release");
    const [read, third] = await run(second, "SELECT a FROM t");
    const [written] = await run(third, "INSERT INTO t VALUES (4)");
    expect([read, written]).toEqual(["FORBIDDEN", "FORBIDDEN"]);
  });

  test("regression: the texts of statements that the one before had are not shown", async () => {
    const mine = headers(await world.token(scope("shop", "preview/*", "rw")));
    const path = "/shop/preview/a/v3/pipeline";
    await served.post(path, sqls("SELECT 'zq7secret' AS a"), mine);
    for (const sql of ["SELECT sql FROM sqlite_stmt", "SELECT * FROM main.SQLITE_STMT AS s"]) {
      const { body, text } = await served.post(path, sqls(sql), mine);
      expect(body.results[0].error.code, text).toBe("SQLITE_AUTH");
      expect(text).not.toContain("zq7secret");
    }
  });

  test("libSQL's claims attach other databases only where they say so", async () => {
    const run = async (claims: object): Promise<string> => {
      const body = sqls("ATTACH 'other' AS o", "SELECT a FROM o.t");
      const token = headers(await world.token(claims));
      return codeOf((await served.post("/shop/v2/pipeline", body, token)).text);
    };
    expect(await run({ p: { rw: { ns: ["shop", "other"] } } })).toBe("FORBIDDEN");
    expect(await run({ p: { rw: { ns: ["shop"] }, roa: { ns: ["other"] } } })).toBe("ok");
  });

  test("a tag is of the branches that have its commit, whatever stands before it", async () => {
    const shop = served.store.database("shop");
    const insert = (branch: string): void => {
      using connection = served.store.connect(`shop/${branch}`);
      connection.exec("INSERT INTO t VALUES ('later')");
    };
    shop.createTag("shared", { at: `shop@${shop.branch().head.version}` });
    insert("secret");
    shop.createTag("hidden", { at: "shop/secret" });
    insert("preview/a");
    shop.createTag("mine", { at: "shop/preview/a" });
    const token = await world.token(scope("shop", "preview/*", "rw"));
    const wanted = {
      "shop@mine": "ok",
      "shop/preview/a@mine": "ok",
      "shop@shared": "ok",
      "shop@hidden": "FORBIDDEN",
      "shop/preview/a@hidden": "FORBIDDEN",
      "shop@none": "FORBIDDEN",
      "shop/preview/a@none": "FORBIDDEN",
    };
    const sql = "SELECT a FROM t";
    const answers: Record<string, string> = {};
    for (const revision of Object.keys(wanted))
      answers[revision] = await askPipeline({ token, revision, sql });
    expect(answers).toEqual(wanted);
    const whole = await world.token(scope("shop", "**", "ro"));
    expect(await askPipeline({ token: whole, revision: "shop@hidden", sql })).toBe("ok");
    expect(await askPipeline({ token: whole, revision: "shop@none", sql })).toBe("TAG_NOT_FOUND");
  });

  test("messages do not name what others have", async () => {
    served.store.database("shop").createTag("launch", { at: "shop" });
    using connection = served.store.connect("shop/secret");
    connection.exec("INSERT INTO t VALUES ('later')");
    const { version } = served.store.database("shop").branch("secret").head;
    const mine = headers(await world.token(scope("*", "preview/**", "rw")));
    const names = /secret|other|launch|main/;
    for (const path of [
      "/shop/preview/b/",
      "/none/preview/a/",
      `/shop/preview/a@${version}/`,
      "/shop/preview/a@nothing/",
    ])
      for (const call of ["v2/pipeline", "v3/cursor", "v1/batch"]) {
        const body = call === "v2/pipeline" ? sqls("SELECT 1") : batch("SELECT 1");
        const { status, text } = await served.post(path + call, body, mine);
        expect([403, 404], text).toContain(status);
        expect(text).not.toMatch(names);
      }
    const statements = sqls(
      "ATTACH 'shop/preview/none' AS x",
      `ATTACH 'shop/preview/a@${version}' AS x`,
    );
    const { body, text } = await served.post("/shop/preview/a/v2/pipeline", statements, mine);
    expect(body.results[0].error.code).toBe("BRANCH_NOT_FOUND");
    expect(body.results[1].error.code).toBe("VERSION_NOT_FOUND");
    expect(text).not.toMatch(names);
  });

  test("no files, and no functions that reach them", async () => {
    const token = await world.token(scope("*", "**", "admin"));
    const [file, copy] = [world.file("key.pem"), world.file("copy")];
    for (const sql of [
      `ATTACH '${file}' AS f`,
      `ATTACH 'file:${file}?mode=ro' AS f`,
      `ATTACH 'file:${file}?vfs=unix' AS f`,
      `VACUUM INTO '${copy}'`,
      `VACUUM INTO 'file:${copy}'`,
      `SELECT readfile('${file}')`,
      `SELECT writefile('${copy}', 'x')`,
      `SELECT load_extension('${file}')`,
      "SELECT fts3_tokenizer('x', x'00')",
      `CREATE VIRTUAL TABLE v USING csv(filename='${file}')`,
      `CREATE VIRTUAL TABLE v USING fileio('${file}')`,
      "SELECT * FROM fsdir('/')",
      "SELECT edit('x')",
    ])
      expect(await askPipeline({ token, revision: "shop", sql }), sql).not.toBe("ok");
    expect(() => readFileSync(copy)).toThrow("ENOENT");
  });

  test("the default database is made by who may make it", async () => {
    const make = async (level: string): Promise<string> => {
      const token = headers(await world.token(scope("default", "**", level)));
      return codeOf((await served.post("/v2/pipeline", sqls("CREATE TABLE t(a)"), token)).text);
    };
    expect(await make("rw")).toBe("DATABASE_NOT_FOUND");
    expect(await make("admin")).toBe("ok");
    expect(await make("rw")).toBe("SQLITE_ERROR"); // The table is there.
  });
});

describe("a token that is good no more", () => {
  const ends: readonly (readonly [string, string, (given: TokenWorld) => void])[] = [
    ["expired", "AUTH_EXPIRED", (given) => void (given.nowMs += 71_000)],
    ["revoked", "AUTH_REVOKED", (given) => void given.revoked.add("t1")],
  ];

  test.each(ends)("%s: ends streams over HTTP, with their transactions", async (_, code, end) => {
    const mine = headers(await world.token(scope("shop", "**", "rw"), { ttlS: 60, id: "t1" }));
    const begin = [execute("BEGIN IMMEDIATE"), execute("INSERT INTO t VALUES ('x')")];
    const first = await served.post("/shop/v2/pipeline", { requests: begin }, mine);
    expect(served.server.streams.size).toBe(1);
    end(world);
    const commit = { baton: first.body.baton, requests: [execute("COMMIT")] };
    const next = await served.post("/shop/v2/pipeline", commit, mine);
    expect([next.status, next.body.code]).toEqual([401, code]);
    await served.server.streams.sweep();
    expect(served.server.streams.size).toBe(0);
    using connection = served.store.connect("shop");
    connection.exec("INSERT INTO t VALUES ('free')");
    expect(connection.prepare("SELECT a FROM t").pluck().all()).toEqual(["shop", "free"]);
  });

  test.each(ends)("%s: ends WebSockets, those that are idle too", async (name, _, end) => {
    const jwt = await world.token(scope("shop", "**", "rw"), { ttlS: 60, id: "t1" });
    const open = async (): Promise<WebSocket> => {
      const socket = new WebSocket(served.url("shop").replace("http:", "ws:"), ["hrana2"]);
      await once(socket, "open");
      socket.send(JSON.stringify({ type: "hello", jwt }));
      await once(socket, "message");
      return socket;
    };
    const [idle, asking] = [await open(), await open()];
    end(world);
    const closed = once(asking, "close");
    const request = { type: "open_stream", stream_id: 1 };
    asking.send(JSON.stringify({ type: "request", request_id: 1, request }));
    const [closeCode, reason] = (await closed) as [number, Buffer];
    expect([closeCode, reason.toString()]).toEqual([1008, expect.stringContaining(name)]);
    const idleClosed = once(idle, "close");
    served.server.look();
    expect((await idleClosed)[0]).toBe(1008);
    expect(served.server.streams.size).toBe(0);
  });

  test("a socket that is closed while its hello is answered leaves no stream behind", async () => {
    const access = world.access();
    let greet = (): void => {};
    const asked = new Promise<void>((resolveAsked) => {
      const answered = new Promise<void>((resolve) => {
        greet = resolve;
      });
      slow = {
        ...access,
        authenticate: async (credentials) => {
          resolveAsked();
          await answered;
          return await access.authenticate(credentials);
        },
      };
    });
    await using other = await ServedDirectory.start({}, {}, slow);
    const socket = new WebSocket(other.url("shop").replace("http:", "ws:"), ["hrana2"]);
    await once(socket, "open");
    const jwt = await world.token(scope("shop", "**", "rw"));
    socket.send(JSON.stringify({ type: "hello", jwt }));
    const request = { type: "open_stream", stream_id: 1 };
    socket.send(JSON.stringify({ type: "request", request_id: 1, request }));
    await asked;
    socket.close();
    await once(socket, "close");
    greet();
    await access.authenticate({ request: { authorization: `Bearer ${jwt}`, url: "/" } });
    await new Promise((resolve) => setImmediate(resolve));
    expect(other.server.streams.size).toBe(0);
  });

  test("a stream is of the token that opened it", async () => {
    const [one, two] = [
      headers(await world.token(scope("shop", "**", "rw"), { id: "one" })),
      headers(await world.token(scope("shop", "**", "ro"), { id: "two" })),
    ];
    const { body } = await served.post("/shop/v2/pipeline", { requests: [execute("BEGIN")] }, one);
    const again = { baton: body.baton, requests: [execute("DELETE FROM t")] };
    expect((await served.post("/shop/v2/pipeline", again, two)).body.code).toBe("BATON_INVALID");
    expect((await served.post("/shop/v2/pipeline", again, one)).status).toBe(200);
  });
});

describe.each(["http", "ws"] as const)("@libsql/client with authToken over %s", (transport) => {
  test("works as far as the token goes", async () => {
    const connect = async (claims: object): Promise<ReturnType<typeof createHttpClient>> => {
      const authToken = await world.token(claims);
      const url = served.url("shop");
      return transport === "http"
        ? createHttpClient({ url, authToken })
        : createWsClient({ url: url.replace("http:", "ws:"), authToken });
    };
    const writer = await connect(scope("shop", "main", "rw"));
    await writer.batch(["INSERT INTO t VALUES ('x')", "INSERT INTO t VALUES ('y')"], "write");
    const reader = await connect(scope("shop", "main", "ro"));
    const [result] = await reader.batch(["SELECT a FROM t ORDER BY a"], "read");
    expect(result?.rows.map((row) => row[0])).toEqual(["shop", "x", "y"]);
    const readOnly = { code: "SQLITE_READONLY" };
    await expect(reader.execute("DELETE FROM t")).rejects.toMatchObject(readOnly);
    await expect(reader.batch(["DELETE FROM t"], "write")).rejects.toMatchObject(readOnly);
    const stranger = await connect(scope("other", "**", "rw"));
    await expect(stranger.execute("SELECT 1")).rejects.toThrow(/does not allow it|FORBIDDEN/);
    for (const client of [writer, reader, stranger]) client.close();
  });
});
