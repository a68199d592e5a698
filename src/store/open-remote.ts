/** Opening a store by the URL of its place in object storage. */
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";
import { StoreError } from "../errors.ts";
import { readManifest } from "../remote/claim.ts";
import { runSync } from "../remote/remote-steps.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { acquireStoreLock } from "../storage/store-lock.ts";
import { Engine } from "./engine.ts";
import { Follower } from "./follower.ts";
import { openLazyStorage } from "./lazy-store.ts";
import { remoteNotFound, RemoteObjects } from "./remote-objects.ts";
import { resolveRemote } from "./remote-options.ts";
import { HEADER_FILE, parseHeader } from "./store-header.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import { resolveOptions, type StoreOptions } from "./store-options.ts";
import { takeOver } from "./take-over.ts";

/** Whether the path of a store is the URL of one in object storage. */
export function isRemoteUrl(path: string): boolean {
  return path.startsWith("s3://") || path.startsWith("file://");
}

/** Where the store in object storage has what it needs here; null: a follower takes the first directory that is free. */
export function remoteDirectory(
  url: string,
  { mode = "follow", directory }: Pick<StoreOptions, "mode" | "directory">,
): string | null {
  return directory ?? (mode === "write" ? defaultDirectory(url, mode) : null);
}

export function openRemoteEngine(url: string, options: StoreOptions): Engine {
  const mode = options.mode ?? "follow";
  if (mode !== "follow" && mode !== "write")
    throw new TypeError(`Option "mode": "${String(mode)}" is not one of follow, write`);
  const directory = options.directory ?? defaultDirectory(url, mode);
  if (mode === "write") return takeOver(url, directory, options);
  if (options.directory !== undefined) return follow(url, directory, options);
  // One follower has a directory: those that run at once each get one, and find their cache in it the next time.
  for (let number = 1; ; number++) {
    try {
      return follow(url, number === 1 ? directory : `${directory}-${number}`, options);
    } catch (error) {
      const isTaken = error instanceof StoreError && error.code === "STORE_LOCKED";
      if (!isTaken || number === FOLLOWERS_MAX) throw error;
    }
  }
}

/** Of one user on one machine, in directories that nobody has named. */
const FOLLOWERS_MAX = 64;

function follow(url: string, directory: string, options: StoreOptions): Engine {
  const resolved = resolveOptions(options);
  const remoteOptions = typeof options.remote === "object" ? options.remote : null;
  const remote = resolveRemote({ ...remoteOptions, url });
  const local = openNodeStorage(directory);
  if (local.listSync("").includes(HEADER_FILE))
    throw new StoreError(
      "REMOTE_CONFLICT",
      `Cannot follow "${url}" in "${directory}": the directory holds a store of its own; choose another directory`,
    );
  local.makeDirectorySync("");
  const lock = acquireStoreLock(local, { description: directory });
  const client = remote.connect();
  const opened: { close(): void }[] = [client];
  try {
    const { timeoutMs } = remote;
    const stored = runSync(readManifest(), client, { timeoutMs });
    if (stored === null) throw remoteNotFound(url);
    const header = parseHeader(stored.manifest.header);
    const cipher = openCipher(header, givenMasterKey(options), options);
    const openKeys = (text: string): typeof cipher =>
      openCipher(parseHeader(text), givenMasterKey(options), options);
    const objects = new RemoteObjects([]);
    const cacheBytesMax = resolved.diskCacheBytesMax;
    const lazy = openLazyStorage(local, client, {
      storeId: header.storeId,
      objects,
      cacheBytesMax,
    });
    opened.push(lazy);
    const follower = new Follower({ url, client, local, lazy, header, cipher, openKeys, resolved });
    opened.push(follower);
    const engine = new Engine({
      description: url,
      options: resolved,
      lock,
      header,
      cipher,
      backend: null,
      claim: null,
      remote: null,
      partition: null,
      follower,
      opened,
      state: follower.openSync(timeoutMs),
      nextHistorySegment: 1,
    });
    follower.onState = (state) => {
      engine.state = state;
    };
    return engine;
  } catch (error) {
    for (const part of opened.reverse()) part.close();
    lock.release();
    throw error;
  }
}

function defaultDirectory(url: string, mode: "follow" | "write"): string {
  const name = createHash("sha256").update(url).digest("hex").slice(0, 32);
  const { env } = process;
  const base =
    mode === "follow"
      ? (env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"))
      : (env["XDG_DATA_HOME"] ?? join(homedir(), ".local", "share"));
  return join(base, "bough", name);
}
