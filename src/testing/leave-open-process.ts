/** A process that commits to a catalog and ends without closing it. Arguments: directory, backend, how it ends. */
import { BACKENDS, openBackend } from "../catalog/backends.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openNodeStorage } from "../storage/node-storage.ts";

const [, , directory = "", name = "", end = ""] = process.argv;
const backend = BACKENDS.find((known) => known === name);
if (backend === undefined) throw new TypeError(`Backend "${name}"`);
const store = openBackend(backend, openNodeStorage(directory));
const batch = new WriteBatch();
batch.put(Buffer.from("key"), Buffer.from("value"));
store.commit(batch);
const entries = store.range({ start: Buffer.from("a"), end: Buffer.from("z") });
const iterator = entries[Symbol.iterator]();
iterator.next();
if (end === "exit") process.exit(0);
