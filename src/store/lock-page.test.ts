import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
  truncateSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { StockSqlite } from "../testing/stock-sqlite.ts";
import { openStore } from "./store.ts";

const PAGE_SIZE = 65_536;
const LOCK_PAGE = 0x40000000 / PAGE_SIZE + 1;

test.runIf(process.env["BOUGH_TEST_LONG"] === "1")(
  "the page at byte 1 GiB is neither read nor stored, and written as zeros; the pages around it are kept",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "bough-lock-page-"));
    const path = join(directory, "large.db");
    const copy = join(directory, "copy.db");
    try {
      writeFileSync(path, await sparseDatabase());
      truncateSync(path, (LOCK_PAGE + 1) * PAGE_SIZE);
      const file = openSync(path, "r+");
      for (const page of [LOCK_PAGE - 1, LOCK_PAGE, LOCK_PAGE + 1])
        writeSync(file, Buffer.alloc(PAGE_SIZE, page & 0xff), 0, PAGE_SIZE, (page - 1) * PAGE_SIZE);
      closeSync(file);
      using store = openStore(join(directory, "store"));
      const { pageCount } = await store.importFile(path, "large");
      expect(pageCount).toBe(LOCK_PAGE + 1);
      expect(await store.check()).toMatchObject({ ok: true, problems: [] });
      await store.exportFile("large", copy);
      const written = openSync(copy, "r");
      for (const page of [LOCK_PAGE - 1, LOCK_PAGE, LOCK_PAGE + 1]) {
        const bytes = Buffer.alloc(PAGE_SIZE);
        readSync(written, bytes, 0, PAGE_SIZE, (page - 1) * PAGE_SIZE);
        const byte = page === LOCK_PAGE ? 0 : page & 0xff;
        expect(bytes.equals(Buffer.alloc(PAGE_SIZE, byte)), `page ${page}`).toBe(true);
      }
      closeSync(written);
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);

/** The first page of a database that says it has pages beyond the lock page. */
async function sparseDatabase(): Promise<Uint8Array> {
  using stock = await StockSqlite.open();
  stock.run(`PRAGMA page_size=${PAGE_SIZE}; VACUUM; CREATE TABLE note(text)`);
  const page = Buffer.from(stock.bytes().subarray(0, PAGE_SIZE));
  page.writeUInt32BE(LOCK_PAGE + 1, 28);
  return page;
}
