/** Run by server-kill.test.ts, which kills it: a server on a store on the real disk. Prints its URL. */
import { serveStore } from "../src/server/serve.ts";
import { openStore } from "../src/store/store.ts";

const [path = ""] = process.argv.slice(2);
const store = openStore(path, { logSegmentBytes: 256 * 1024, checkpointBytes: 1024 * 1024 });
const server = await serveStore(store, { settings: { port: 0 } });
process.stdout.write(`${server.url}\n`);
