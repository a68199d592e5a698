/**
 * A process that damages the catalog of a store, bit by bit: for each "byte.bit" of its arguments it flips that bit of
 * the whole `data.mdb`, reads and writes the catalog through lmdb, and checks the store. Writes the flip to standard
 * output before it begins, so that whoever started it knows which one ended it, and the outcome after.
 */
import fs from "node:fs";
import { join } from "node:path";

import { scanCatalog } from "../catalog/catalog-scan.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openLmdb } from "../catalog/lmdb-key-value.ts";
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { checkStore } from "../store/check-store.ts";

const [, , directory = "", ...flips] = process.argv;
const catalog = join(directory, "catalog", "data.mdb");
const whole = fs.readFileSync(catalog);
const storage = openNodeStorage(directory);

function damage(flip: string): void {
  const [byte = 0, bit = 0] = flip.split(".").map(Number);
  const bytes = Buffer.from(whole);
  bytes[byte]! ^= 1 << bit;
  fs.writeFileSync(catalog, bytes);
}

/** "fine", or the code of the error. */
function useCatalog(): string {
  try {
    const store = openLmdb(storage, "catalog/data.mdb");
    try {
      for (const row of scanCatalog(store)) void row.kind;
      for (let round = 0; round < 3; round++) {
        const batch = new WriteBatch();
        for (let key = 0; key < 60; key++)
          batch.put(Buffer.from(`z${key}`), new Uint8Array(key % 20 === 0 ? 9000 : 50).fill(round));
        store.commit(batch);
      }
    } finally {
      store.close();
    }
    return "fine";
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

/** "fine", or the code of the first problem. */
async function checkedCode(): Promise<string> {
  try {
    const report = await checkStore(directory);
    return report.problems[0]?.code ?? "fine";
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

for (const flip of flips) {
  fs.writeSync(1, `${flip} `);
  damage(flip);
  const used = useCatalog();
  damage(flip);
  fs.writeSync(1, `${used} ${await checkedCode()}\n`);
}
fs.writeFileSync(catalog, whole);
