/** Opens a store, asks one question, and prints how long that took. */
import { openStore } from "../../src/store/store.ts";

export interface OpeningTimes {
  readonly openMs: number;
  readonly connectMs: number;
  readonly queryMs: number;
}

const start = performance.now();
const store = openStore(process.argv[2]!, { create: false });
const opened = performance.now();
const connection = store.connect("large");
const connected = performance.now();
connection.prepare("SELECT title FROM note WHERE id = ?").get(123_456);
const asked = performance.now();
const times: OpeningTimes = {
  openMs: opened - start,
  connectMs: connected - opened,
  queryMs: asked - connected,
};
process.stdout.write(JSON.stringify(times));
store.close();
