/** Where a store uploads to, and how it waits. */
import type { ObjectStoreOptions } from "../remote/open-object-store.ts";
import { RemoteClient } from "../remote/remote-client.ts";
import type { RemoteConnection } from "../remote/remote-connection.ts";

export interface RemoteOptions extends ObjectStoreOptions {
  /** "s3://bucket/prefix" or "file:///path". Recorded in the store; the other options are not. */
  readonly url: string;
  /** What is durable here is in object storage after about this time, in milliseconds: 1000 by default. */
  readonly flushIntervalMs?: number;
  /** How long a commit with durability "remote", and a close, wait for object storage, in milliseconds: 30000. */
  readonly timeoutMs?: number;
  /** Objects that are not needed any more stay this long for readers elsewhere, in milliseconds: an hour. */
  readonly graceMs?: number;
  /** Connects to something else than what the URL names: for tests. */
  readonly connect?: () => RemoteConnection;
}

export interface ResolvedRemote {
  readonly url: string;
  /** Opens nothing before its first request. */
  readonly connect: () => RemoteConnection;
  readonly flushIntervalMs: number;
  readonly timeoutMs: number;
  readonly graceMs: number;
  /** Changes of the catalog between checkpoints, by garbage collection, go up after this time, in milliseconds. */
  readonly manifestIntervalMs: number;
}

/** A URL stands for its defaults. Throws TypeError or RangeError. */
export function resolveRemote(given: string | RemoteOptions): ResolvedRemote {
  const options = typeof given === "string" ? { url: given } : given;
  const { url, flushIntervalMs, timeoutMs, graceMs, connect, ...objectStore } = options;
  return {
    url,
    connect: connect ?? (() => RemoteClient.open(url, objectStore)),
    flushIntervalMs: milliseconds("flushIntervalMs", flushIntervalMs, 1000),
    timeoutMs: milliseconds("timeoutMs", timeoutMs, 30_000),
    graceMs: milliseconds("graceMs", graceMs, 60 * 60 * 1000),
    manifestIntervalMs: 30_000,
  };
}

function milliseconds(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (Number.isFinite(value) && value >= 0) return value;
  throw new RangeError(`Option "remote.${name}": ${value} is not a time in milliseconds`);
}
