/**
 * A real S3 server on this machine, for tests and for trying things out: `npx tsx scripts/start-radosgw.ts`. Prints its URL with
 * the keys, which is what BOUGH_TEST_S3 takes, and serves until it is interrupted or its standard input ends. Needs root and
 * Debian's packages, which it installs.
 */
import { startRadosgw } from "../src/testing/radosgw.ts";

const server = await startRadosgw();
const { endpoint, accessKeyId, secretAccessKey } = server;
const url = new URL(endpoint);
url.username = accessKeyId;
url.password = secretAccessKey;
process.stdout.write(`BOUGH_TEST_S3=${url.href}\n`);

let stopping = false;
function stop(): void {
  if (stopping) return;
  stopping = true;
  void server.stop().then(() => process.exit(0));
}
process.on("SIGINT", stop);
process.on("SIGTERM", stop);
// Whoever started this with a pipe has ended, in whatever way.
if (!process.stdin.isTTY) process.stdin.on("end", stop).resume();
