/** An owner thread whose first partition fails when it is closed: see threads-death.test.ts. */
import { BroadcastChannel, workerData } from "node:worker_threads";
import { SingleStore } from "../src/store/single-store.ts";
import type { OwnerSetup } from "../src/threads/message.ts";

const [partition] = (workerData as OwnerSetup).partitions;
if (partition === undefined) throw new Error("An owner has a partition");
const channel = new BroadcastChannel(`bough-death ${partition.path}`);
channel.unref();
const closeAsync: (this: SingleStore) => Promise<void> = Reflect.get(
  SingleStore.prototype,
  "closeAsync",
);
let closed = 0;
SingleStore.prototype.closeAsync = async function (this: SingleStore): Promise<void> {
  await closeAsync.call(this);
  if (closed++ > 0) return;
  channel.postMessage("failed");
  throw new Error("thrown on purpose");
};
await import("../src/threads/owner-program.ts");
