/**
 * A process that commits numbered batches to an lmdb catalog until it is killed: batch n writes n to each of 20 keys and
 * a value of its own. Writes n to standard output once the commit has returned.
 */
import fs from "node:fs";

import { WriteBatch } from "../catalog/key-value.ts";
import { openLmdb } from "../catalog/lmdb-key-value.ts";
import { openNodeStorage } from "../storage/node-storage.ts";

const [, , directory = "", first = "1"] = process.argv;
const store = openLmdb(openNodeStorage(directory), "catalog");
for (let number = Number(first); ; number++) {
  const batch = new WriteBatch();
  for (let key = 0; key < 20; key++)
    batch.put(Buffer.from(`same${key}`), Buffer.from(String(number)));
  batch.put(Buffer.from(`own${number}`), new Uint8Array(number % 5000).fill(number));
  store.commit(batch);
  fs.writeSync(1, `${number}\n`);
}
