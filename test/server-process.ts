/** Run by server-kill.test.ts, which kills it: a server on a store on the real disk. Prints its URL. */
import { serveStore } from "../src/server/serve.ts";
import { openStore } from "../src/store/store.ts";
import { openStoreAsync } from "../src/threads/open-store.ts";

const [path = "", port = "0", threads = "0"] = process.argv.slice(2);
const options = { logSegmentBytes: 256 * 1024, checkpointBytes: 1024 * 1024 };
const store =
  threads === "0"
    ? openStore(path, options)
    : await openStoreAsync(path, { ...options, threads: Number(threads) });
// However slow the machine is, only the kill ends what clients have open.
const limitMs = 1_800_000;
const server = await serveStore(store, {
  settings: {
    port: Number(port),
    transactionMs: limitMs,
    streamIdleMs: limitMs,
    statementMs: limitMs,
    busyTimeoutMs: limitMs,
  },
});
process.stdout.write(`${server.url}\n`);
