/**
 * What object storage has of a store, and what the store's directory has beyond it. Asks and reads only: the store may be open in
 * another process, and nobody becomes its writer.
 */
import { StoreError } from "../errors.ts";
import { readSegmentHeader } from "../log/log-recovery.ts";
import { type LogPosition, LogTail } from "../log/log-tail.ts";
import { listSegments } from "../log/segment-files.ts";
import { readManifest, readSlice } from "../remote/claim.ts";
import { SLICE_PREFIX, sliceKey, sliceSequence } from "../remote/remote-keys.ts";
import { listObjects, type RemoteProcedure, runAsync } from "../remote/remote-steps.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { resolveRemote } from "./remote-options.ts";
import { listStore } from "./store-directory.ts";
import { HEADER_FILE, readHeader } from "./store-header.ts";
import { storeNotFound, type StoreOptions } from "./store-options.ts";

export interface RemoteStatus {
  /** Null: the store is not uploaded, and nothing else is known. */
  readonly url: string | null;
  /** "fenced": another directory has become the writer. "unreachable": see `error`. */
  readonly state: "none" | "empty" | "behind" | "current" | "fenced" | "unreachable";
  /** Of what is in object storage; null: nothing is, or it was not reached. */
  readonly manifest: { readonly number: number; readonly at: Date; readonly writer: string } | null;
  /** Records up to this LSN are in object storage, of how many that the directory has. */
  readonly uploadedLsn: number | null;
  readonly durableLsn: number;
  /** When the newest of them went up. */
  readonly uploadedAt: Date | null;
  readonly error: string | null;
}

/** Where the store in the directory uploads to. Throws STORE_NOT_FOUND. */
export function remoteUrl(path: string, storage: Storage = openNodeStorage(path)): string | null {
  if (!listStore(storage, path).includes(HEADER_FILE)) throw storeNotFound(path);
  return readHeader(storage).remote?.url ?? null;
}

interface Found {
  readonly manifest: NonNullable<RemoteStatus["manifest"]>;
  readonly lsn: number;
  readonly atMs: number;
  readonly isOurs: boolean;
}

/** For the directory of a store. `timeoutMs`: how long object storage is asked; 10000 by default. */
export async function remoteStatus(
  path: string,
  options: Pick<StoreOptions, "storage" | "remote"> & { readonly timeoutMs?: number } = {},
): Promise<RemoteStatus> {
  const storage = options.storage ?? openNodeStorage(path);
  if (!listStore(storage, path).includes(HEADER_FILE)) throw storeNotFound(path);
  const header = readHeader(storage);
  const durableLsn = durableHere(storage, header.storeId);
  const none = { manifest: null, uploadedLsn: null, uploadedAt: null, durableLsn, error: null };
  const url = header.remote?.url ?? null;
  if (url === null) return { ...none, url, state: "none" };
  const given = typeof options.remote === "object" ? options.remote : null;
  const signal = AbortSignal.timeout(options.timeoutMs ?? 10_000);
  let found: Found | null;
  try {
    const client = resolveRemote({ ...given, url }).connect();
    try {
      found = await runAsync(ask(header.remote?.replica ?? ""), client, signal);
    } finally {
      client.close();
    }
  } catch (error) {
    if (!(error instanceof StoreError) && !signal.aborted) throw error;
    const text = error instanceof StoreError ? error.message : "it does not answer in time";
    return { ...none, url, state: "unreachable", error: text };
  }
  if (found === null) return { ...none, url, state: "empty" };
  const { manifest, lsn, atMs, isOurs } = found;
  const state = !isOurs ? "fenced" : lsn < durableLsn ? "behind" : "current";
  const uploadedAt = new Date(atMs);
  return { url, state, manifest, uploadedLsn: lsn, durableLsn, uploadedAt, error: null };
}

function* ask(replica: string): RemoteProcedure<Found | null> {
  const stored = yield* readManifest();
  if (stored === null) return null;
  const { number, atMs, writer, checkpointLsn, logStart } = stored.manifest;
  const manifest = { number, at: new Date(atMs), writer: writer.name };
  const found = { manifest, lsn: checkpointLsn, atMs, isOurs: writer.replica === replica };
  const slices = yield* listObjects(SLICE_PREFIX, sliceKey(logStart - 1));
  for (const { key } of slices.toReversed()) {
    const slice = yield* readSlice(sliceSequence(key) ?? 0);
    if (slice === null || slice.isFence) continue;
    const lsn = Math.max(checkpointLsn, slice.lastLsn);
    return { ...found, lsn, atMs: Math.max(atMs, slice.atMs) };
  }
  return found;
}

/** Whoever has the store open may trim its log meanwhile. */
function durableHere(storage: Storage, storeId: Uint8Array): number {
  for (let attempt = 1; ; attempt++) {
    try {
      return lastLsn(storage, storeId);
    } catch (error) {
      const isGone = error instanceof StoreError && error.code === "FILE_NOT_FOUND";
      if (!isGone || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

const ATTEMPTS_MAX = 5;

/** Of the log as the disk has it now. */
function lastLsn(storage: Storage, storeId: Uint8Array): number {
  const segments = listSegments(storage);
  const newest = segments.at(-1);
  if (newest === undefined) return 0;
  let last = readSegmentHeader(storage, newest, storeId).firstLsn - 1;
  const tail = new LogTail({ storage, storeId, cipher: null });
  let position: LogPosition = { segment: newest.number, offset: 0 };
  for (;;) {
    const found = tail.pieces(position, Infinity, READ_BYTES);
    if (found.pieces.length === 0) return last;
    last = Math.max(last, found.lastLsn);
    position = found.next;
  }
}

const READ_BYTES = 4 * 1024 * 1024;
