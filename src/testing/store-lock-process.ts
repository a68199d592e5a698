/**
 * A process that takes and releases store locks as its standard input says, one line each: "take DIRECTORY" answers
 * "held" or "refused CODE MESSAGE", "release" answers "released", "exit" ends it with the lock still held.
 */
import { createInterface } from "node:readline";

import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { acquireStoreLock, type StoreLock } from "../storage/store-lock.ts";

let lock: StoreLock | null = null;

function answer(line: string): string {
  const [command, directory = ""] = line.split(" ");
  if (command === "exit") process.exit(0);
  if (command === "release") {
    lock?.release();
    lock = null;
    return "released";
  }
  try {
    lock = acquireStoreLock(openNodeStorage(directory), { description: directory });
    return "held";
  } catch (error) {
    if (error instanceof StoreError) return `refused ${error.code} ${error.message}`;
    throw error;
  }
}

process.stdout.write("ready\n");
createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(`${answer(line)}\n`);
});
