/** An owner thread that dies as it is told: see threads-death.test.ts. */
import { existsSync } from "node:fs";
import { BroadcastChannel, workerData } from "node:worker_threads";
import type { OwnerSetup } from "../src/threads/message.ts";

export interface DeathMessage {
  readonly index: number;
  readonly how: "exit" | "throw" | "memory";
}

const {
  partitions: [partition],
  port,
} = workerData as OwnerSetup;
if (partition === undefined) throw new Error("An owner has a partition");
const { path, index } = partition;
if (existsSync(`${path}/die-${index}`)) process.exit(3);
if (existsSync(`${path}/die-open-${index}`))
  port.on("message", () => setImmediate(() => process.exit(5)));
const channel = new BroadcastChannel(`bough-death ${path}`);
channel.addEventListener("message", (event) => {
  const message = (event as MessageEvent).data as DeathMessage;
  if (message.index !== index) return;
  if (message.how === "exit") process.exit(7);
  if (message.how === "throw") throw new Error("thrown on purpose");
  const kept: unknown[] = [];
  for (;;) kept.push(Array.from({ length: 100_000 }, (_, number) => ({ number })));
});
channel.unref();
await import("../src/threads/owner-program.ts");
