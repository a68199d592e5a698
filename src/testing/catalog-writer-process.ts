/**
 * A process that commits numbered batches to a catalog until it is killed: batch n writes n to each of 20 keys and a
 * value of its own, deletes and compacts now and then. Writes n to standard output once the commit has returned.
 * Arguments: directory, first number, backend.
 */
import fs from "node:fs";

import { BACKENDS, openBackend } from "../catalog/backends.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openNodeStorage } from "../storage/node-storage.ts";

const [, , directory = "", first = "1", name = ""] = process.argv;
const backend = BACKENDS.find((known) => known === name);
if (backend === undefined) throw new TypeError(`Backend "${name}"`);
const store = openBackend(backend, openNodeStorage(directory));
for (let number = Number(first); ; number++) {
  const batch = new WriteBatch();
  for (let key = 0; key < 20; key++)
    batch.put(Buffer.from(`same${key}`), Buffer.from(String(number)));
  batch.put(Buffer.from(`own${number}`), new Uint8Array(number % 5000).fill(number));
  batch.put(Buffer.from(`large${number % 3}`), new Uint8Array(60_000).fill(number));
  store.commit(batch);
  fs.writeSync(1, `${number}\n`);
  if (number % 40 === 0) store.compact();
}
