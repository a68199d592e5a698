/**
 * Opening a store in object storage as its new writer, in a directory of this machine. Pages stay in object storage until they
 * are read; what is written is local first, as in any store.
 *
 *   no store in the directory --claim, fill--> a store --open--> open        a store of that URL in it --open--> open
 *
 * O1. The key is tried, and the directory looked at, before the earlier writer is fenced off.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { StoreError } from "../errors.ts";
import { type Claim, claimRemote, readManifest } from "../remote/claim.ts";
import { type RemoteProcedure, runSync } from "../remote/remote-steps.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { acquireStoreLock } from "../storage/store-lock.ts";
import { Engine } from "./engine.ts";
import { fillCatalog, fillLog } from "./fill-directory.ts";
import { remoteFiles, remoteNotFound, writeRemoteObjects } from "./remote-objects.ts";
import { resolveRemote } from "./remote-options.ts";
import {
  HEADER_FILE,
  parseHeader,
  readHeader,
  type StoreHeader,
  writeHeader,
} from "./store-header.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import { resolveOptions, type StoreOptions } from "./store-options.ts";

/** `directory`: where the store lives on this machine; made where it is missing. */
export function takeOver(url: string, directory: string, options: StoreOptions): Engine {
  const remoteOptions = typeof options.remote === "object" ? options.remote : null;
  const remote = { ...remoteOptions, url };
  const all: StoreOptions = { ...options, create: false, remote };
  const storage = openNodeStorage(directory);
  if (storage.listSync("").includes(HEADER_FILE)) {
    const known = readHeader(storage).remote?.url;
    if (known === url) return Engine.open(directory, all);
    throw new StoreError(
      "REMOTE_CONFLICT",
      `Cannot open "${url}" in "${directory}": the directory holds a store of its own; choose another directory`,
    );
  }
  const foreign = storage.listSync("").find((name) => !OWN_NAMES.has(name));
  if (foreign !== undefined)
    throw new StoreError(
      "STORE_NOT_FOUND",
      `Cannot open "${url}" in "${directory}": the directory holds other files, "${foreign}" among them; choose another directory`,
    );
  storage.makeDirectorySync("");
  const lock = acquireStoreLock(storage, { description: directory });
  let claim: Claim;
  try {
    const { timeoutMs } = resolveRemote(remote);
    const client = resolveRemote(remote).connect();
    try {
      claim = runSync(claimAndFill(storage, url, all), client, {
        timeoutMs: Math.max(timeoutMs, FILL_MS_MIN),
      });
    } finally {
      client.close();
    }
  } finally {
    lock.release();
  }
  return Engine.open(directory, all, claim);
}

/** What a directory may hold that was being filled when that ended. */
const OWN_NAMES: ReadonlySet<string> = new Set([
  "lock",
  "log",
  "catalog",
  "chunks",
  "history",
  "upload",
  "cache",
  "remote-objects.json",
  "remote-objects.json.new",
  "store.json.new",
]);

/** Filling takes as long as the catalog is large, and no single request of it long. */
const FILL_MS_MIN = 10 * 60 * 1000;

function* claimAndFill(
  storage: Storage,
  url: string,
  options: StoreOptions,
): RemoteProcedure<Claim> {
  const { now } = resolveOptions(options);
  const before = yield* readManifest();
  if (before === null) throw remoteNotFound(url);
  openCipher(parseHeader(before.manifest.header), givenMasterKey(options), options); // O1
  const replica = randomBytes(8).toString("hex");
  const claim = yield* claimRemote({
    storeId: null,
    replica,
    random: Uint8Array.from(randomBytes(8)),
    writerName: `process ${process.pid} on "${hostname()}"`,
    takeOver: true,
    now,
  });
  if (claim.manifest === null) throw remoteNotFound(url);
  const { manifest } = claim.manifest;
  const { remote: _, ...rest } = parseHeader(manifest.header);
  const header: StoreHeader = { ...rest, remote: { url, replica } };
  const cipher = openCipher(header, givenMasterKey(options), options);
  const filling = { storage, manifest, header, cipher, now };
  yield* fillLog(filling);
  yield* fillCatalog(filling);
  writeRemoteObjects(storage, remoteFiles(manifest, claim.files));
  writeHeader(storage, header);
  return claim;
}
