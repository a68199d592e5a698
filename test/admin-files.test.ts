import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { OPEN_ACCESS } from "../src/server/access.ts";
import { LocalAdminStore } from "../src/server/admin/local-admin-store.ts";
import { LocalStore } from "../src/server/local-store.ts";
import { serveStore } from "../src/server/serve.ts";
import { parseSettings } from "../src/server/settings.ts";
import type { SnapshotBlocks } from "../src/store/snapshot-blocks.ts";
import { openStore } from "../src/store/store.ts";
import { AdminServer } from "./admin-fixture.ts";
import { startHttpServer } from "./server-fixture.ts";

const SQLITE = { "content-type": "application/vnd.sqlite3" };
const FILE = "/databases/shop/branches/main/file";

const MEGABYTES = process.env["BOUGH_TEST_LONG"] === undefined ? 12 : 200;

/** With a database of that many megabytes that do not compress. */
async function withShop(megabytes: number): Promise<AdminServer> {
  const admin = await AdminServer.start();
  admin.store.createDatabase("shop");
  using connection = admin.store.connect("shop");
  connection.exec("CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)");
  const insert = connection.prepare("INSERT INTO blobs (data) VALUES (?)");
  let word = 0x9e3779b9;
  for (let index = 0; index < megabytes; index++) {
    const words = new Uint32Array(262_144);
    for (let at = 0; at < words.length; at++) {
      word ^= word << 13;
      word ^= word >>> 17;
      word ^= word << 5;
      words[at] = word;
    }
    insert.run(new Uint8Array(words.buffer));
  }
  return admin;
}

function uploads(admin: AdminServer): string[] {
  const path = join(admin.storePath, "uploads");
  return existsSync(path) ? readdirSync(path) : [];
}

/** Holders of the store that keep its garbage: a download is one. */
function holders(admin: AdminServer): number {
  return admin.store.engine.state.holders.size;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

test("what is downloaded is what is uploaded, page for page", async () => {
  await using admin = await withShop(MEGABYTES);
  const response = await admin.fetch("GET", FILE);
  const bytes = new Uint8Array(await response.arrayBuffer());
  expect([response.status, response.headers.get("content-type")]).toEqual([
    200,
    "application/vnd.sqlite3",
  ]);
  expect(response.headers.get("content-disposition")).toBe(
    `attachment; filename="shop@${MEGABYTES + 1}.db"`,
  );
  expect(bytes.length).toBeGreaterThan(MEGABYTES * 1_000_000);
  const path = join(admin.directory, "exported.db");
  await admin.store.exportFile("shop", path);
  expect(Buffer.compare(bytes, readFileSync(path))).toBe(0);

  const uploaded = await admin.call("PUT", "/databases/copy/branches/main/file", {
    raw: bytes,
    headers: SQLITE,
  });
  expect(uploaded.body).toMatchObject({ database: "copy", branch: "main", version: 1 });
  const again = await admin.fetch("GET", "/databases/copy/branches/main/file");
  expect(Buffer.compare(bytes, new Uint8Array(await again.arrayBuffer()))).toBe(0);
  expect(uploads(admin)).toEqual([]);
  expect(holders(admin)).toBe(0);
  expect(admin.bugs).toEqual([]);
});

test("a revision is downloaded, and its ETag stands for the version", async () => {
  await using admin = await withShop(0);
  admin.store.connect("shop").exec("INSERT INTO blobs (data) VALUES (x'01')").close();
  const old = await admin.fetch("GET", `${FILE}?revision=%401`);
  expect(old.headers.get("content-disposition")).toBe('attachment; filename="shop@1.db"');
  await old.arrayBuffer();
  const etag = old.headers.get("etag") ?? "";
  const known = { headers: { "if-none-match": etag } };
  expect((await admin.fetch("GET", `${FILE}?revision=shop%401`, known)).status).toBe(304);
  const head = await admin.fetch("HEAD", FILE, known);
  expect([head.status, Number(head.headers.get("content-length"))]).toEqual([200, 8192]);
  expect((await admin.call("GET", `${FILE}?revision=%4099`)).body.code).toBe("VERSION_NOT_FOUND");
  expect(holders(admin)).toBe(0);
});

test("an empty database is an empty file", async () => {
  await using admin = await AdminServer.start();
  admin.store.createDatabase("shop");
  const response = await admin.fetch("GET", FILE);
  expect([response.status, (await response.arrayBuffer()).byteLength]).toEqual([200, 0]);
});

test("an upload makes a branch, or is a new commit on one that is there", async () => {
  await using admin = await withShop(0);
  const raw = new Uint8Array(await (await admin.fetch("GET", FILE)).arrayBuffer());
  const path = "/databases/shop/branches/from%2Ffile/file";
  expect((await admin.call("PUT", path, { raw, headers: SQLITE })).body).toMatchObject({
    branch: "from/file",
    version: 2,
  });
  expect((await admin.call("PUT", path, { raw, headers: SQLITE })).body.version).toBe(3);
});

test("an upload that asks not to wait is answered with its job", async () => {
  await using admin = await withShop(1);
  const raw = new Uint8Array(await (await admin.fetch("GET", FILE)).arrayBuffer());
  const answer = await admin.call("PUT", FILE, {
    raw,
    headers: { ...SQLITE, prefer: "respond-async" },
  });
  expect([answer.status, answer.body.kind]).toEqual([202, "import"]);
  expect(answer.headers.get("location")).toBe(`/api/v1/jobs/${answer.body.id}`);
  const job = await admin.ended(answer.body);
  expect(job).toMatchObject({
    state: "done",
    target: { database: "shop", branch: "main" },
    result: { version: 3 },
  });
  expect(uploads(admin)).toEqual([]);
});

test("what is no database is refused, without the path that it had, and leaves nothing", async () => {
  await using admin = await withShop(0);
  const raw = new Uint8Array(10_000).fill(7);
  for (const path of [FILE, "/databases/other/branches/main/file"]) {
    const { status, body } = await admin.call("PUT", path, { raw, headers: SQLITE });
    expect([status, body.code]).toEqual([400, "NOT_A_DATABASE"]);
    expect(body.detail).not.toContain(admin.directory);
    expect(body.detail).toContain("the uploaded file");
  }
  expect(uploads(admin)).toEqual([]);
  expect(admin.store.databases().map(({ name }) => name)).toEqual(["shop"]);
  admin.store.database("shop").branch().protect();
  const file = new Uint8Array(await (await admin.fetch("GET", FILE)).arrayBuffer());
  expect((await admin.call("PUT", FILE, { raw: file, headers: SQLITE })).body.code).toBe(
    "BRANCH_PROTECTED",
  );
  expect(admin.bugs).toEqual([]);
});

test("an upload above the limit is refused, whether it says its length or not", async () => {
  await using admin = await AdminServer.start({ settings: { uploadBytesMax: 100_000 } });
  const raw = new Uint8Array(100_001);
  const path = "/databases/big/branches/main/file";
  expect((await admin.call("PUT", path, { raw, headers: SQLITE })).body.code).toBe(
    "REQUEST_TOO_LARGE",
  );
  const status = await new Promise((resolve, reject) => {
    const request = httpRequest(admin.url(path), { method: "PUT", headers: SQLITE }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on("error", reject);
    request.flushHeaders();
    request.write(new Uint8Array(60_000));
    request.write(new Uint8Array(60_000));
  });
  expect(status).toBe(413);
  expect(uploads(admin)).toEqual([]);
});

test("uploads at the same time share the limit, whether they say their length or not", async () => {
  await using admin = await AdminServer.start({ settings: { uploadBytesMax: 100_000 } });
  const { port } = new URL(admin.server.url);
  const first = connect(Number(port), "127.0.0.1");
  first.on("error", () => {});
  const path = "/databases/first/branches/main/file";
  first.write(`PUT /api/v1${path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n`);
  await until(() => uploads(admin).length === 1);
  const upload = async (raw: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>>) => {
    const { status, body } = await admin.call("PUT", "/databases/second/branches/main/file", {
      raw,
      headers: SQLITE,
    });
    return { status, code: body.code, retryable: body.retryable };
  };
  const pieces = (): ReadableStream<Uint8Array<ArrayBuffer>> =>
    new Blob([new Uint8Array(50_000)]).stream();
  const refused = { status: 413, code: "LIMIT", retryable: true };
  expect(await upload(new Uint8Array(50_000))).toEqual(refused);
  expect(await upload(pieces())).toEqual(refused);
  first.destroy();
  await until(() => uploads(admin).length === 0);
  const taken = { status: 400, code: "NOT_A_DATABASE", retryable: false };
  expect(await upload(new Uint8Array(50_000))).toEqual(taken);
  expect(await upload(pieces())).toEqual(taken);
  expect([uploads(admin), admin.bugs]).toEqual([[], []]);
});

test("a client that goes in the middle of its upload leaves nothing", async () => {
  await using admin = await withShop(0);
  const socket = connect(Number(new URL(admin.server.url).port), "127.0.0.1");
  socket.on("error", () => {});
  socket.write(`PUT /api/v1${FILE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n`);
  socket.write(new Uint8Array(500_000));
  await until(() => uploads(admin).length === 1);
  socket.destroy();
  await until(() => uploads(admin).length === 0);
  expect(admin.store.database("shop").version).toBe(1);
  expect(admin.bugs).toEqual([]);
});

test("a client that goes in the middle of its download lets go of the snapshot", async () => {
  await using admin = await withShop(MEGABYTES);
  const socket = connect(Number(new URL(admin.server.url).port), "127.0.0.1");
  socket.pause();
  socket.write(`GET /api/v1${FILE} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  await until(() => holders(admin) === 1);
  // It reads nothing: the download waits, and holds no more than what the sockets take.
  socket.destroy();
  await until(() => holders(admin) === 0);
  expect(admin.bugs).toEqual([]);
});

test("no more is read for a download than its client takes", async () => {
  await using admin = await withShop(MEGABYTES);
  let blocks = 0;
  class CountedStore extends LocalAdminStore {
    override async exportRevision(revision: string): Promise<SnapshotBlocks> {
      const file = await super.exportRevision(revision);
      const read = file.read.bind(file);
      file.read = (...given) => {
        blocks++;
        return read(...given);
      };
      return file;
    }
  }
  const server = await startHttpServer({
    store: new LocalStore(admin.store, { busyTimeoutMs: 1000, statementTimeoutMs: 1000 }),
    admin: new CountedStore(admin.store),
    settings: parseSettings({ port: 0, stopMs: 1 }),
    access: OPEN_ACCESS,
  });
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.pause();
  socket.write(`GET /api/v1${FILE} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  await until(() => blocks > 0);
  // Far more turns than there are blocks.
  for (let turn = 0; turn < 2000; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(blocks * 256 * 1024).toBeLessThan(MEGABYTES * 1024 * 1024);
  socket.destroy();
  await until(() => holders(admin) === 0);
  await server.stop();
});

test("a download reads its version, whatever is committed meanwhile", async () => {
  await using admin = await withShop(4);
  const response = await admin.fetch("GET", FILE);
  const reader = response.body!.getReader();
  const parts = [(await reader.read()).value!];
  using connection = admin.store.connect("shop");
  connection.exec("DELETE FROM blobs");
  admin.store.gc();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
  }
  const path = join(admin.directory, "old.db");
  await admin.store.exportFile("shop@5", path);
  expect(Buffer.compare(Buffer.concat(parts), readFileSync(path))).toBe(0);
});

test("files of a server that was killed go when the store is served next", async () => {
  await using admin = await withShop(0);
  const raw = new Uint8Array(await (await admin.fetch("GET", FILE)).arrayBuffer());
  await admin.call("PUT", FILE, { raw, headers: SQLITE });
  await admin.server.stop();
  admin.store.close();
  const left = join(admin.storePath, "uploads", `${"0".repeat(24)}.upload`);
  const other = join(admin.storePath, "uploads", "notes.txt");
  for (const path of [left, other]) writeFileSync(path, "x");
  const store = openStore(admin.storePath);
  const server = await serveStore(store, { settings: { port: 0 } });
  expect([existsSync(left), existsSync(other)]).toEqual([false, true]);
  expect((await store.check({ deep: true })).ok).toBe(true);
  await server.stop();
  store.close();
});

test("regression: a download whose client has gone before it began holds nothing", async () => {
  await using admin = await withShop(1);
  let socket: Socket | null = null;
  class LeftStore extends LocalAdminStore {
    override async exportRevision(revision: string): Promise<SnapshotBlocks> {
      const file = await super.exportRevision(revision);
      socket?.destroy();
      // The server learns of it some turns later.
      for (let turn = 0; turn < 100; turn++) await new Promise((next) => setImmediate(next));
      return file;
    }
  }
  const started = await startHttpServer({
    store: new LocalStore(admin.store, { busyTimeoutMs: 1000, statementTimeoutMs: 1000 }),
    admin: new LeftStore(admin.store),
    settings: parseSettings({ port: 0, stopMs: 1 }),
    access: OPEN_ACCESS,
  });
  socket = connect(Number(new URL(started.url).port), "127.0.0.1");
  socket.write(`GET /api/v1${FILE} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  await until(() => holders(admin) === 1);
  await until(() => holders(admin) === 0);
  await started.stop();
});

test("regression: a file that is larger than a branch may be is not imported", async () => {
  await using admin = await AdminServer.start({ settings: { databaseBytesMax: 8192 } });
  admin.store.createDatabase("shop");
  admin.store.connect("shop").exec("CREATE TABLE t(a); CREATE TABLE u(a)").close();
  const raw = new Uint8Array(await (await admin.fetch("GET", FILE)).arrayBuffer());
  expect(raw.length).toBeGreaterThan(8192);
  const { status, body } = await admin.call("PUT", FILE, { raw, headers: SQLITE });
  expect([status, body.code]).toEqual([413, "LIMIT"]);
  expect(uploads(admin)).toEqual([]);
  expect(admin.store.database("shop").branch().head.version).toBe(2);
});
