/**
 * Makes a store's directory out of what is in object storage.
 *
 *   slices -> the log    catalog runs -> the catalog, in the backend that the store has    then store.json
 *
 * K1. `store.json` is written last: a directory without it is no store, and is filled again from the start.
 */
import { deleteCatalog, openBackend } from "../catalog/backends.ts";
import { loadRuns } from "../catalog/run-load.ts";
import { RunReader } from "../catalog/run-reader.ts";
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant } from "../errors.ts";
import { writeEmptySegment } from "../log/empty-segment.ts";
import { LOG_DIRECTORY } from "../log/segment-files.ts";
import { downloadFile, LogAssembly, readSlices } from "../remote/download.ts";
import type { LogSlice } from "../remote/log-slice.ts";
import type { Manifest } from "../remote/manifest.ts";
import { RUN_PREFIX } from "../remote/remote-keys.ts";
import type { RemoteProcedure } from "../remote/remote-steps.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import type { StoreHeader } from "./store-header.ts";

export interface FillOptions {
  readonly storage: Storage;
  readonly manifest: Manifest;
  readonly header: StoreHeader;
  readonly cipher: StoreCipher | null;
  readonly now: () => number;
}

/** The log up to the last slice; the slices are returned. */
export function* fillLog(options: FillOptions): RemoteProcedure<readonly LogSlice[]> {
  const { storage, manifest, header, now } = options;
  deleteAll(storage, LOG_DIRECTORY);
  const slices = yield* readSlices(manifest.logStart);
  const { storeId } = header;
  const { checkpointLsn } = manifest;
  const isBehind = endsBefore(slices, checkpointLsn);
  const log = new LogAssembly(storage);
  if (!isBehind) for (const slice of slices) log.add(slice);
  log.finish();
  const hasSegments = !isBehind && slices.some(({ pieces }) => pieces.length > 0);
  if (!hasSegments && checkpointLsn > 0)
    writeEmptySegment(storage, { storeId, lsn: checkpointLsn, now: now() });
  return slices;
}

/** Whether the checkpoint went up and the last records before it did not: then it has all that there is. */
export function endsBefore(slices: readonly LogSlice[], checkpointLsn: number): boolean {
  const lastLsn = slices.reduce((last, slice) => Math.max(last, slice.lastLsn), 0);
  return lastLsn > 0 && lastLsn < checkpointLsn;
}

export function* fillCatalog(options: FillOptions): RemoteProcedure<void> {
  const { storage, manifest, header, cipher } = options;
  deleteAll(storage, "upload");
  deleteCatalog(header.backend, storage);
  const files: StorageFile[] = [];
  const backend = openBackend(header.backend, storage);
  try {
    const runs: RunReader[] = [];
    for (const { key } of manifest.runs) {
      const path = `upload/${key.slice(RUN_PREFIX.length)}`;
      yield* downloadFile(storage, key, path);
      const file = storage.openFileSync(path, { mode: "read" });
      files.push(file);
      runs.push(RunReader.open(file, { storeId: header.storeId, cipher }));
    }
    if (runs.length === 0) return;
    for (const step of loadRuns(runs, backend)) {
      invariant("entriesRead" in step, "The runs are on this machine");
      yield { type: "pause" };
    }
  } finally {
    for (const file of files) file.closeSync();
    backend.close();
  }
}

function deleteAll(storage: Storage, directory: string): void {
  for (const name of storage.listSync(directory)) storage.deleteSync(`${directory}/${name}`);
}
