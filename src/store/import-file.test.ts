import { cpSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StockSqlite } from "../testing/stock-sqlite.ts";
import { openStore, type Store } from "./store.ts";

const WAL_FIXTURE = new URL("../../test/fixtures/sqlite-wal/", import.meta.url);

let directory: string;
let store: Store;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-import-"));
  store = openStore(join(directory, "store"));
});

afterEach(() => {
  store.close();
  rmSync(directory, { recursive: true });
});

function at(name: string): string {
  return join(directory, name);
}

/** A database with 300 rows, made by SQLite itself. */
async function sampleFile(
  name: string,
  options: { pageSize?: number; rows?: number } = {},
): Promise<string> {
  using stock = await StockSqlite.open();
  stock.run(`PRAGMA page_size=${options.pageSize ?? 4096}; VACUUM`);
  stock.run(
    "CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT); CREATE INDEX by_text ON note(text)",
  );
  stock.run(
    `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<${options.rows ?? 300})
     INSERT INTO note SELECT i, 'note ' || i || hex(zeroblob(40)) FROM n`,
  );
  writeFileSync(at(name), stock.bytes());
  return at(name);
}

function walFixture(): { database: Uint8Array; wal: Uint8Array } {
  return {
    database: readFileSync(new URL("notes.db", WAL_FIXTURE)),
    wal: readFileSync(new URL("notes.db-wal", WAL_FIXTURE)),
  };
}

function rows(revision: string, sql = "SELECT count(*) AS n FROM note"): unknown {
  const connection = store.connect(revision);
  try {
    expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
    return connection.prepare(sql).get();
  } finally {
    connection.close();
  }
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(store.databases().map(({ name }) => name)).toEqual([]);
  return error;
}

describe("importFile", () => {
  test.each([512, 1024, 4096, 65536])(
    "takes a database with pages of %i bytes",
    async (pageSize) => {
      const path = await sampleFile("notes.db", { pageSize });
      const result = await store.importFile(path, "notes");
      expect(result).toMatchObject({ database: "notes", branch: "main", version: 1, pageSize });
      expect(store.database("notes").pageSize).toBe(pageSize);
      expect(rows("notes")).toEqual({ n: 300 });
      const connection = store.connect("notes");
      connection.exec("DELETE FROM note WHERE id > 10; VACUUM");
      connection.close();
      expect(rows("notes")).toEqual({ n: 10 });
      expect(rows("notes@1")).toEqual({ n: 300 });
    },
  );

  test("survives closing and opening the store", async () => {
    await store.importFile(await sampleFile("notes.db"), "notes");
    store.close();
    store = openStore(at("store"));
    expect(rows("notes")).toEqual({ n: 300 });
  });

  test("is seen by open connections also when the schema cookie stays the same", async () => {
    await store.importFile(await sampleFile("notes.db"), "notes");
    const connection = store.connect("notes");
    connection.exec("ALTER TABLE note RENAME TO renamed");
    const cookie = connection.pragma("schema_version", { simple: true });
    const select = connection.prepare("SELECT count(*) FROM renamed").pluck();
    expect(select.get()).toBe(300);
    using stock = await StockSqlite.open();
    stock.run("PRAGMA page_size=4096; VACUUM; CREATE TABLE other(a); CREATE TABLE more(b)");
    stock.run(`PRAGMA schema_version = ${Number(cookie)}`);
    writeFileSync(at("other.db"), stock.bytes());
    await store.importFile(at("other.db"), "notes");
    expect(() => select.get()).toThrow("no such table: renamed");
    connection.close();
    expect(rows("notes", "PRAGMA schema_version")).toEqual({ schema_version: cookie });
  });

  test("replaces what a branch held by one commit, and leaves other branches alone", async () => {
    await store.importFile(await sampleFile("many.db", { rows: 2000 }), "notes");
    store.database("notes").createBranch("kept");
    const few = await sampleFile("few.db", { rows: 3 });
    const { version } = await store.importFile(few, "notes");
    expect(version).toBe(2);
    expect(rows("notes")).toEqual({ n: 3 });
    expect(rows("notes@1")).toEqual({ n: 2000 });
    expect(rows("notes/kept")).toEqual({ n: 2000 });
    await store.importFile(few, "notes/made-by-import");
    expect(rows("notes/made-by-import")).toEqual({ n: 3 });
    expect(store.database("notes").branch("made-by-import").parent?.name).toBe("main");
  });

  test("stores pages once that it has already", async () => {
    const path = await sampleFile("notes.db", { rows: 3000 });
    const first = await store.importFile(path, "notes");
    const second = await store.importFile(path, "copy");
    expect(first.sharedPages).toBeLessThan(first.pageCount / 2);
    expect(second.sharedPages).toBe(second.pageCount);
  });

  test("reports progress up to all bytes", async () => {
    const path = await sampleFile("notes.db", { rows: 20_000 });
    const seen: number[] = [];
    const { pageCount, pageSize } = await store.importFile(path, "notes", {
      onProgress: ({ bytes, totalBytes }) => {
        expect(bytes).toBeLessThanOrEqual(totalBytes);
        seen.push(bytes);
      },
    });
    expect(seen.length).toBeGreaterThan(1);
    expect(seen.at(-1)).toBe(pageCount * pageSize);
  });

  test("aborted: the signal's reason, and nothing is left", async () => {
    const path = await sampleFile("notes.db", { rows: 20_000 });
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(new Error("enough"));
    const error = await failure(
      store.importFile(path, "notes", { signal: controller.signal, onProgress }),
    );
    expect(error).toMatchObject({ message: "enough" });
    await store.importFile(path, "notes");
    expect(rows("notes")).toEqual({ n: 20_000 });
  });

  test("a branch that is written to is busy, and takes no writer while the import runs", async () => {
    const path = await sampleFile("notes.db");
    await store.importFile(path, "notes");
    const connection = store.connect("notes");
    connection.exec("BEGIN IMMEDIATE");
    await expect(store.importFile(path, "notes")).rejects.toMatchObject({ code: "BRANCH_BUSY" });
    connection.exec("COMMIT");
    const importing = store.importFile(path, "notes", {
      onProgress: () => expect(() => connection.exec("DELETE FROM note")).toThrow(/locked/),
    });
    expect(await importing).toMatchObject({ version: 2 });
    connection.exec("DELETE FROM note WHERE id = 1");
    connection.close();
    expect(rows("notes")).toEqual({ n: 299 });
  });

  test("refuses a protected branch, another page size and a branch of no database", async () => {
    const path = await sampleFile("notes.db");
    await expect(store.importFile(path, "notes/dev")).rejects.toMatchObject({
      code: "DATABASE_NOT_FOUND",
    });
    await store.importFile(path, "notes");
    const other = await sampleFile("other.db", { pageSize: 8192 });
    await expect(store.importFile(other, "notes")).rejects.toMatchObject({ code: "PAGE_SIZE" });
    await expect(store.importFile(path, "notes@1")).rejects.toMatchObject({
      code: "REVISION_INVALID",
    });
    store.database("notes").branch().protect();
    await expect(store.importFile(path, "notes")).rejects.toMatchObject({
      code: "BRANCH_PROTECTED",
    });
    expect(store.database("notes").version).toBe(1);
  });

  test("a database that somebody creates meanwhile is not touched", async () => {
    const path = await sampleFile("notes.db");
    let created = false;
    const onProgress = (): void => {
      if (!created) store.createDatabase("notes");
      created = true;
    };
    await expect(store.importFile(path, "notes", { onProgress })).rejects.toMatchObject({
      code: "DATABASE_EXISTS",
    });
    expect(store.database("notes").version).toBe(0);
  });

  test.each([
    ["missing.db", null, "FILE_NOT_FOUND"],
    ["empty.db", "", "NOT_A_DATABASE"],
    [
      "text.db",
      "hello, I am a text file, and longer than a header is ".repeat(4),
      "NOT_A_DATABASE",
    ],
    ["short.db", "SQLite format 3\0\u0010", "FILE_TRUNCATED"],
  ])("%s is one clear error", async (name, content, code) => {
    if (content !== null) writeFileSync(at(name), content);
    const error = await failure(store.importFile(at(name), "notes"));
    expect(error).toMatchObject({ code });
    expect(String(error)).toContain(name);
  });

  test("a directory is one clear error", async () => {
    const error = await failure(store.importFile(directory, "notes"));
    expect(error).toMatchObject({ code: "IO" });
    expect(String(error)).toContain("is a directory");
  });

  test("every way to cut the file is an error or, past the last page, no difference", async () => {
    const whole = readFileSync(await sampleFile("notes.db", { pageSize: 512, rows: 40 }));
    for (let size = 0; size < whole.length; size += 256) {
      writeFileSync(at("cut.db"), whole.subarray(0, size));
      const error = await failure(store.importFile(at("cut.db"), "notes"));
      expect(error).toMatchObject({ code: size === 0 ? "NOT_A_DATABASE" : "FILE_TRUNCATED" });
    }
    writeFileSync(at("long.db"), Buffer.concat([whole, Buffer.alloc(700, 0xee)]));
    expect(await store.importFile(at("long.db"), "notes")).toMatchObject({
      pageCount: whole.length / 512,
    });
    expect(rows("notes")).toEqual({ n: 40 });
  });

  test("where the header does not know the page count the size of the file does", async () => {
    const bytes = readFileSync(await sampleFile("notes.db"));
    bytes.writeUInt32BE(7, 28);
    bytes.writeUInt32BE(bytes.readUInt32BE(24) + 1, 92);
    writeFileSync(at("old.db"), bytes);
    const { pageCount } = await store.importFile(at("old.db"), "notes");
    expect(pageCount).toBe(bytes.length / 4096);
    expect(rows("notes")).toEqual({ n: 300 });
  });

  test("a hot rollback journal is an error, a finished one is not", async () => {
    const path = await sampleFile("notes.db");
    writeFileSync(`${path}-journal`, Buffer.from("d9d505f920a163d7000000010000", "hex"));
    expect(await failure(store.importFile(path, "notes"))).toMatchObject({ code: "FILE_BUSY" });
    writeFileSync(`${path}-journal`, Buffer.alloc(512));
    await store.importFile(path, "notes");
    expect(rows("notes")).toEqual({ n: 300 });
  });

  test("a file that is written to while it is read is an error", async () => {
    const path = await sampleFile("notes.db");
    const onProgress = (): void => utimesSync(path, new Date(), new Date(5));
    const error = await failure(store.importFile(path, "notes", { onProgress }));
    expect(error).toMatchObject({ code: "FILE_BUSY", retryable: true });
    const appearing = (): void => writeFileSync(`${path}-wal`, "new");
    const second = await failure(store.importFile(path, "notes", { onProgress: appearing }));
    expect(second).toMatchObject({ code: "FILE_BUSY" });
  });
});

describe("importFile with a write-ahead log", () => {
  test("takes what SQLite committed to it and nothing else", async () => {
    cpSync(WAL_FIXTURE, directory, { recursive: true });
    const result = await store.importFile(at("notes.db"), "notes");
    expect(result).toMatchObject({ pageSize: 512, walCommits: 41 });
    expect(rows("notes")).toEqual({ n: 60 });
    expect(rows("notes", "SELECT text FROM note WHERE id = 1")).toEqual({
      text: "changed in the log",
    });
    expect(rows("notes", "SELECT count(*) AS n FROM note WHERE text LIKE 'never%'")).toEqual({
      n: 0,
    });
  });

  test("cut anywhere it gives the last commit before the cut", async () => {
    const { database, wal } = walFixture();
    writeFileSync(at("notes.db"), database);
    let last = -1;
    for (let size = 32; size <= wal.length; size += 268) {
      writeFileSync(at("notes.db-wal"), wal.subarray(0, size));
      const name = `notes${size}`;
      const { walCommits } = await store.importFile(at("notes.db"), name);
      expect(walCommits).toBeGreaterThanOrEqual(last);
      last = walCommits;
      // The 41st commit changes a row, the 40 before it add one each.
      expect(rows(name)).toEqual({ n: 20 + Math.min(walCommits, 40) });
    }
    expect(last).toBe(41);
  });

  test("a flipped bit ends it before the frame, and in its header is an error", async () => {
    const { database, wal } = walFixture();
    writeFileSync(at("notes.db"), database);
    for (const bit of [0, 40, 70, 100, 130, 200, 255]) {
      const damaged = Uint8Array.from(wal);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      writeFileSync(at("notes.db-wal"), damaged);
      expect(await failure(store.importFile(at("notes.db"), "notes")), `bit ${bit}`).toMatchObject({
        code: "WAL_INVALID",
      });
    }
    const damaged = Uint8Array.from(wal);
    damaged[32 + 10 * 536 + 100]! ^= 4;
    writeFileSync(at("notes.db-wal"), damaged);
    const { walCommits } = await store.importFile(at("notes.db"), "notes");
    expect(walCommits).toBeGreaterThan(0);
    expect(walCommits).toBeLessThan(41);
    expect(rows("notes")).toEqual({ n: 20 + walCommits });
  });

  test("with big-endian checksums reads the same", async () => {
    const { database, wal } = walFixture();
    writeFileSync(at("notes.db"), database);
    writeFileSync(at("notes.db-wal"), withBigEndianChecksums(wal));
    expect(await store.importFile(at("notes.db"), "notes")).toMatchObject({ walCommits: 41 });
    expect(rows("notes")).toEqual({ n: 60 });
  });

  test("without its database, instead of it, short or for another page size is an error", async () => {
    const { database, wal } = walFixture();
    writeFileSync(at("notes.db-wal"), wal);
    const alone = await failure(store.importFile(at("notes.db"), "notes"));
    expect(alone).toMatchObject({ code: "WAL_INVALID" });
    expect(String(alone)).toContain("notes.db-wal");
    const instead = await failure(store.importFile(at("notes.db-wal"), "notes"));
    expect(instead).toMatchObject({ code: "NOT_A_DATABASE" });
    writeFileSync(at("notes.db"), database);
    writeFileSync(at("notes.db-wal"), wal.subarray(0, 20));
    const short = await failure(store.importFile(at("notes.db"), "notes"));
    expect(short).toMatchObject({ code: "WAL_INVALID" });
    const other = await sampleFile("other.db");
    writeFileSync(`${other}-wal`, wal);
    expect(await failure(store.importFile(other, "notes"))).toMatchObject({ code: "WAL_INVALID" });
  });

  test("an empty one is as none", async () => {
    writeFileSync(at("notes.db"), walFixture().database);
    writeFileSync(at("notes.db-wal"), "");
    expect(await store.importFile(at("notes.db"), "notes")).toMatchObject({ walCommits: 0 });
    expect(rows("notes")).toEqual({ n: 20 });
  });
});

/** The same log as a big-endian machine would have written it; from the format's description, not from the reader. */
function withBigEndianChecksums(wal: Uint8Array): Uint8Array {
  const bytes = Buffer.from(wal);
  bytes.writeUInt32BE(0x377f0683, 0);
  let sums: [number, number] = [0, 0];
  const add = (start: number, end: number): void => {
    let [first, second] = sums;
    for (let offset = start; offset < end; offset += 8) {
      first = (first + bytes.readUInt32BE(offset) + second) >>> 0;
      second = (second + bytes.readUInt32BE(offset + 4) + first) >>> 0;
    }
    sums = [first, second];
  };
  add(0, 24);
  bytes.writeUInt32BE(sums[0], 24);
  bytes.writeUInt32BE(sums[1], 28);
  for (let frame = 32; frame + 536 <= bytes.length; frame += 536) {
    add(frame, frame + 8);
    add(frame + 24, frame + 536);
    bytes.writeUInt32BE(sums[0], frame + 16);
    bytes.writeUInt32BE(sums[1], frame + 20);
  }
  return bytes;
}
