/**
 * A real S3 server on this machine, for tests and for trying things out: `npx tsx scripts/start-radosgw.ts`. Prints its URL with
 * the keys, which is what BOUGH_TEST_S3 takes, and serves until it is interrupted or its standard input ends. Needs root and
 * Debian's packages, which it installs.
 */
import { startRadosgw } from "../src/testing/radosgw.ts";

const interrupted = new AbortController();
process.on("SIGINT", () => interrupted.abort());
process.on("SIGTERM", () => interrupted.abort());
// Whoever started this with a pipe has ended, in whatever way.
if (!process.stdin.isTTY) process.stdin.on("end", () => interrupted.abort()).resume();

const server = await startRadosgw(interrupted.signal);
const { endpoint, accessKeyId, secretAccessKey } = server;
const url = new URL(endpoint);
url.username = accessKeyId;
url.password = secretAccessKey;
process.stdout.write(`BOUGH_TEST_S3=${url.href}\n`);

const stop = (): void => void server.stop().then(() => process.exit(0));
if (interrupted.signal.aborted) stop();
else interrupted.signal.addEventListener("abort", stop);
