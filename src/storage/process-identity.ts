/**
 * Who runs here: enough to tell later, from another process, whether that one is still alive.
 *
 * A process number alone is not: it is used again after a reboot, in another container, and by wrap-around. The start
 * time (in clock ticks since boot) tells two holders of one number apart; the boot id and the PID namespace say where
 * the number means anything at all. What a system does not offer is null.
 */
import fs from "node:fs";
import { hostname } from "node:os";

import { systemErrorName } from "./system-error.ts";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process. */
  readonly startTicks: string | null;
  readonly host: string;
  /** Random for each boot of the kernel. */
  readonly bootId: string | null;
  readonly pidNamespace: string | null;
  readonly command: string;
}

export function currentProcessIdentity(): ProcessIdentity {
  return {
    pid: process.pid,
    startTicks: readProcessState(process.pid)?.startTicks ?? null,
    host: hostname(),
    bootId: readOrNull(() => fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    pidNamespace: readOrNull(() => fs.readlinkSync("/proc/self/ns/pid")),
    command: [process.argv0, ...process.argv.slice(1)].join(" ").slice(0, 200),
  };
}

/** Whether process numbers of `other` mean the same processes here. */
export function sharesProcessNumbers(here: ProcessIdentity, other: ProcessIdentity): boolean {
  return (
    here.host === other.host &&
    here.bootId === other.bootId &&
    here.pidNamespace === other.pidNamespace
  );
}

/** Whether the process lives; only for one that `sharesProcessNumbers`. Unsure counts as alive. */
export function isAlive(identity: ProcessIdentity): boolean {
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    // EPERM: it is there and belongs to another user.
    if (systemErrorName(error) === "ESRCH") return false;
  }
  const state = readProcessState(identity.pid);
  if (state === null) return true;
  if (state.ended) return false;
  return identity.startTicks === null || state.startTicks === identity.startTicks;
}

/** From /proc/<pid>/stat: field 3 is the state, field 22 the start time. Null where there is none. */
function readProcessState(pid: number): { startTicks: string; ended: boolean } | null {
  const stat = readOrNull(() => fs.readFileSync(`/proc/${pid}/stat`, "latin1"));
  if (stat === null) return null;
  // Field 2 is the command in parentheses, which may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const startTicks = fields[22 - 3];
  const state = fields[0];
  if (startTicks === undefined || state === undefined) return null;
  return { startTicks, ended: state === "Z" || state === "X" };
}

/** These files are missing on most systems that are not Linux: then the fact is unknown, which is an answer. */
function readOrNull(read: () => string): string | null {
  try {
    return read();
  } catch (error) {
    if (systemErrorName(error) === null) throw error;
    return null;
  }
}
