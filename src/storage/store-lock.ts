/**
 * One process at a time holds a store. The lock is the file "lock" in the store's directory: JSON that says who.
 *
 *   field         meaning
 *   nonce         random, different for each taking of the lock
 *   pid           process number
 *   startTicks    start time of the process, where the system tells
 *   host          host name
 *   bootId        of the kernel, where the system tells
 *   pidNamespace  where the process number is valid, where the system tells
 *   command       the holder's command line, for messages
 *   since         ISO 8601 time of taking the lock
 *
 * L1. exclusive-file.ts lets one process only have the file, also when several find it abandoned at once.
 * L2. A holder whose process number can be looked up here is judged by that alone. Any other (another host or container)
 *     refreshes the file's modification time every 5 s and counts as dead after 60 s without.
 * L3. A process that opens the store twice, from whichever thread, is refused like any other.
 */
import fs from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";

import { StoreError } from "../errors.ts";
import {
  type ExclusiveContent,
  type ExclusiveFileOptions,
  holdsExclusiveFile,
  releaseExclusiveFile,
  removeLeftovers,
  takeExclusiveFile,
} from "./exclusive-file.ts";
import {
  currentProcessIdentity,
  isAlive,
  type ProcessIdentity,
  sharesProcessNumbers,
} from "./process-identity.ts";
import type { Storage } from "./storage.ts";
import { systemErrorName } from "./system-error.ts";

export const LOCK_FILE = "lock";
const HEARTBEAT_MS = 5_000;
const HEARTBEAT_LOST_MS = 60_000;
/** A machine that has been up this long would have refreshed a lock that it still held. */
const HEARTBEAT_AFTER_BOOT_MS = 3 * HEARTBEAT_MS;

interface LockContent extends ProcessIdentity, ExclusiveContent {
  readonly since: string;
}

export interface StoreLock {
  /** False when the lock was lost: another host took it after 60 s without a heartbeat. Reads the file. */
  isHeld(): boolean;
  /** Gives the store free; again without effect. */
  release(): void;
}

export interface StoreLockOptions {
  /** How messages name the store. */
  readonly description: string;
}

/** Storages without a directory live in this process (thread): the object itself is the place of the lock. */
const heldInMemory = new WeakSet<Storage>();

/** Throws StoreError STORE_LOCKED, naming the holder, when another has the store. Its directory must exist. */
export function acquireStoreLock(storage: Storage, options: StoreLockOptions): StoreLock {
  return storage.directory === null
    ? acquireInMemory(storage, options.description)
    : acquireFile(join(storage.directory, LOCK_FILE), options.description);
}

function acquireInMemory(storage: Storage, description: string): StoreLock {
  if (heldInMemory.has(storage)) {
    throw new StoreError(
      "STORE_LOCKED",
      `Cannot open the store "${description}": it is already open in this process`,
    );
  }
  heldInMemory.add(storage);
  let held = true;
  return {
    isHeld: () => held,
    release() {
      if (held) heldInMemory.delete(storage);
      held = false;
    },
  };
}

function acquireFile(path: string, description: string): StoreLock {
  const here = currentProcessIdentity();
  const file: ExclusiveFileOptions<LockContent> = {
    path,
    describe: (nonce) => ({ nonce, ...here, since: new Date().toISOString() }),
    parse: parseLock,
    isAbandoned: (content, modifiedMs) => isAbandoned(content, modifiedMs, here),
  };
  const result = takeExclusiveFile(file);
  if (!result.taken) throw lockedError({ path, description, here, ...result });
  removeLeftovers(file, result.content);
  return new FileLock(path, result.content);
}

/** Locks to give back when the process (or the worker thread) ends without having done so. */
const heldFiles = new Set<StoreLock>();

function releaseAll(): void {
  for (const lock of heldFiles) lock.release();
}

class FileLock implements StoreLock {
  private readonly path: string;
  private readonly content: LockContent;
  private readonly timer: NodeJS.Timeout;
  private released = false;

  constructor(path: string, content: LockContent) {
    this.path = path;
    this.content = content;
    this.timer = setInterval(() => this.beat(), HEARTBEAT_MS);
    this.timer.unref();
    if (heldFiles.size === 0) process.on("exit", releaseAll);
    heldFiles.add(this);
  }

  isHeld(): boolean {
    return !this.released && holdsExclusiveFile(this.path, this.content, parseLock);
  }

  release(): void {
    if (this.released) return;
    this.released = true;
    clearInterval(this.timer);
    heldFiles.delete(this);
    if (heldFiles.size === 0) process.off("exit", releaseAll);
    releaseExclusiveFile(this.path, this.content, parseLock);
  }

  /** A lock that was lost is left to its new holder; a failing disk shows itself elsewhere. */
  private beat(): void {
    try {
      if (!holdsExclusiveFile(this.path, this.content, parseLock)) return clearInterval(this.timer);
      const now = new Date();
      fs.utimesSync(this.path, now, now);
    } catch (error) {
      if (systemErrorName(error) === null) throw error;
    }
  }
}

function isAbandoned(
  content: LockContent | null,
  modifiedMs: number,
  here: ProcessIdentity,
): boolean {
  const now = Date.now();
  if (content !== null) {
    if (sharesProcessNumbers(here, content)) return !isAlive(content);
    const bootedMs = now - uptime() * 1000;
    const rebooted = here.host === content.host && here.bootId !== content.bootId;
    if (rebooted && modifiedMs < bootedMs && now - bootedMs > HEARTBEAT_AFTER_BOOT_MS) return true;
  }
  return now - modifiedMs > HEARTBEAT_LOST_MS;
}

function lockedError(options: {
  path: string;
  description: string;
  here: ProcessIdentity;
  holder: LockContent | null;
  modifiedMs: number;
}): StoreError {
  const { path, description, here, holder, modifiedMs } = options;
  const seconds = Math.max(0, Math.round((Date.now() - modifiedMs) / 1000));
  const local = holder !== null && sharesProcessNumbers(here, holder);
  const who =
    holder === null
      ? `the lock file "${path}" cannot be read and is ${seconds} s old`
      : local && holder.pid === process.pid
        ? `it is already open in this process (pid ${holder.pid}) since ${holder.since}`
        : `it is open in process ${holder.pid} on host "${holder.host}" ("${holder.command}") since ${holder.since}`;
  const when = local
    ? ""
    : `; last sign of life ${seconds} s ago, it counts as dead after ${HEARTBEAT_LOST_MS / 1000} s`;
  return new StoreError("STORE_LOCKED", `Cannot open the store "${description}": ${who}${when}`, {
    retryable: true,
    details: { path, holder },
  });
}

function parseLock(text: string): LockContent | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return isLockContent(value) ? value : null;
}

function isLockContent(value: unknown): value is LockContent {
  if (typeof value !== "object" || value === null) return false;
  const has = (field: string, ...types: string[]): boolean => {
    const found: unknown = Reflect.get(value, field);
    return types.includes(found === null ? "null" : typeof found);
  };
  return (
    "pid" in value &&
    Number.isSafeInteger(value.pid) &&
    Number(value.pid) > 0 &&
    ["nonce", "host", "command", "since"].every((field) => has(field, "string")) &&
    ["startTicks", "bootId", "pidNamespace"].every((field) => has(field, "string", "null"))
  );
}
