/**
 * A process that uses the object storage of the URL it is given and ends without closing anything: what it still prints tells
 * what kept it alive.
 */
import { RemoteClient } from "../remote/remote-client.ts";
import { ObjectStoreControl } from "./held-object-store-thread.ts";

const url = process.argv[2] ?? "";
const control = new ObjectStoreControl();
const client = new RemoteClient(url, { url, ...control.program });

await client.put("a", Uint8Array.of(1, 2, 3));
process.stdout.write("stored\n");
process.stdout.write(`read ${(await client.get("a"))?.body.byteLength}\n`);
const size = await new Promise((resolve) => {
  client.startGet("a", undefined, (_, object) => resolve(object?.body.byteLength)).keepAlive();
});
process.stdout.write(`joined ${String(size)}\n`);
control.hold();
client.startGet("a", undefined, () => process.stdout.write("too late\n"));
process.stdout.write("idle\n");
