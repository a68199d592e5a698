import { expect, test } from "vitest";
import { openEmptyDatabase } from "../testing/random-database.ts";
import { btreePageKind, pointerAt, scanBtreePage, PagePointers } from "./btree-page.ts";
import { fileLayout, readUint16, type FileLayout } from "./file-layout.ts";

interface Scanned {
  readonly kind: string | null;
  readonly isWhole: boolean;
  /** Page numbers, with the length of the chain that they begin. */
  readonly pointers: readonly (readonly [number, number])[];
}

function scan(layout: FileLayout, page: Uint8Array, number: number): Scanned {
  const pointers = new PagePointers(layout);
  const isWhole = scanBtreePage(layout, { page, number, pointers });
  return {
    kind: btreePageKind(page, number),
    isWhole,
    pointers: Array.from({ length: pointers.count }, (_, index) => [
      pointerAt(page, pointers, index),
      pointers.chainLengths[index]!,
    ]),
  };
}

async function pagesOf(
  sql: string,
  options: { pageSize?: number; reserved?: number } = {},
): Promise<{ layout: FileLayout; page: (number: number) => Uint8Array }> {
  const { pageSize = 512, reserved = 0 } = options;
  using stock = await openEmptyDatabase({ pageSize, reserved, autoVacuum: 0, encoding: "UTF-8" });
  stock.run(sql);
  const bytes = new Uint8Array(stock.bytes());
  const page = (number: number): Uint8Array =>
    bytes.subarray((number - 1) * pageSize, number * pageSize);
  return { layout: fileLayout(page(1), pageSize)!, page };
}

test("golden bytes: an index interior page with an overflow chain, and its right-most child", () => {
  const header = new Uint8Array(512);
  header.set([2, 0], 16);
  const layout = fileLayout(header, 512)!;
  const page = new Uint8Array(512);
  // One cell at 463: child 7, payload of 1000 bytes, 39 of them here, then overflow page 9: 4 + 2 + 39 + 4 bytes.
  page.set([2, 0, 0, 0, 1, 463 >> 8, 463 & 0xff, 0, 0, 0, 0, 8, 463 >> 8, 463 & 0xff], 0);
  page.set([0, 0, 0, 7, 0x87, 0x68], 463);
  page.set([0, 0, 0, 9], 463 + 6 + 39);
  expect(scan(layout, page, 5)).toEqual({
    kind: "index-interior",
    isWhole: true,
    pointers: [
      [7, 0],
      [9, 2],
      [8, 0],
    ],
  });
});

test("the payload stays on the page up to SQLite's limits, in every kind of page and with reserved bytes", async () => {
  for (const reserved of [0, 7, 32]) {
    const usable = 512 - reserved;
    const tableMax = usable - 35;
    const indexMax = Math.floor(((usable - 12) * 64) / 255) - 23;
    for (const size of [tableMax - 1, tableMax, tableMax + 1]) {
      // The record has a header of 3 bytes: its size, and a serial type of 2.
      const sql = `CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(${size - 3}))`;
      const { layout, page } = await pagesOf(sql, { reserved });
      const chains = scan(layout, page(2), 2).pointers;
      expect(chains, `${size} of ${tableMax}`).toEqual(size > tableMax ? [[3, 1]] : []);
    }
    for (const size of [indexMax - 1, indexMax, indexMax + 1]) {
      const sql = `CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES (zeroblob(${size - (size < 61 ? 2 : 3)}))`;
      const { layout, page } = await pagesOf(sql, { reserved });
      const chains = scan(layout, page(2), 2).pointers;
      expect(chains, `${size} of ${indexMax}`).toEqual(size > indexMax ? [[3, 1]] : []);
    }
  }
});

test("an empty page of 65536 bytes has its content at 65536", async () => {
  const { layout, page } = await pagesOf("CREATE TABLE t (a)", { pageSize: 65536 });
  expect(readUint16(page(2), 5)).toBe(0);
  expect(scan(layout, page(2), 2)).toEqual({ kind: "table-leaf", isWhole: true, pointers: [] });
});

test("cells of less than 4 bytes take 4", async () => {
  const sql = "CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES (1), (0)";
  const { layout, page } = await pagesOf(sql);
  expect(scan(layout, page(2), 2).isWhole).toBe(true);
  expect(readUint16(page(2), 5)).toBe(512 - 2 * 4);
});

test("a flipped bit in the header or in a cell's offset is found", async () => {
  const { layout, page } = await pagesOf(`CREATE TABLE t (a);
    INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT zeroblob(i * 6) FROM n;
    DELETE FROM t WHERE rowid IN (3, 7)`);
  const whole = page(2);
  expect(scan(layout, whole, 2).isWhole).toBe(true);
  expect(readUint16(whole, 1)).toBeGreaterThan(0);
  const cellCount = readUint16(whole, 3);
  for (let bit = 0; bit < (8 + 2 * cellCount) * 8; bit++) {
    const damaged = whole.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    expect(scan(layout, damaged, 2).isWhole, `bit ${bit}`).toBe(false);
  }
});

test("freeblocks in a circle, out of order or too close are found", async () => {
  const { layout, page } = await pagesOf(`CREATE TABLE t (a);
    INSERT INTO t VALUES (zeroblob(20)), (zeroblob(20)), (zeroblob(20)), (zeroblob(20)); DELETE FROM t WHERE rowid IN (2, 4)`);
  const whole = page(2);
  expect(scan(layout, whole, 2).isWhole).toBe(true);
  const first = readUint16(whole, 1);
  for (const next of [first, first - 8, first + 8, first + 26, 511]) {
    const damaged = whole.slice();
    damaged[first] = next >> 8;
    damaged[first + 1] = next & 0xff;
    expect(scan(layout, damaged, 2).isWhole, `next ${next}`).toBe(false);
  }
});
