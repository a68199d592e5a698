/** A worker thread that takes the lock of the store in `workerData` and posts "held" or the error's code. */
import { parentPort, workerData } from "node:worker_threads";

import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { acquireStoreLock } from "../storage/store-lock.ts";

function take(directory: string): string {
  try {
    acquireStoreLock(openNodeStorage(directory), { description: directory });
    return "held";
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

parentPort?.postMessage(take(String(workerData)));
