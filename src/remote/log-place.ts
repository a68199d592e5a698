/** Where in the local log the upload goes on. */
import { StoreError } from "../errors.ts";
import { readSegmentHeader } from "../log/log-recovery.ts";
import type { LogPosition } from "../log/log-tail.ts";
import { listSegments, segmentPath } from "../log/segment-files.ts";
import { type Claim, equal, readSlice } from "./claim.ts";
import { sliceSequence } from "./remote-keys.ts";
import type { RemoteProcedure } from "./remote-steps.ts";
import type { UploadSource } from "./upload-source.ts";

/**
 * The segment that recovery after a checkpoint begins with: the last that starts at or before the record after it. Null when
 * that is gone, after a later checkpoint.
 */
export function firstNeededSegment(source: UploadSource, checkpointLsn: number): number | null {
  const { storage, storeId } = source;
  const segments = listSegments(storage);
  for (const name of segments.toReversed()) {
    const header = readSegmentHeader(storage, name, storeId);
    if (header.firstLsn <= checkpointLsn + 1) return name.number;
  }
  return segments.length === 0 ? 1 : null;
}

/**
 * What the slices that are stored end with, checked against the local log: the same bytes must be here, or a checkpoint after
 * them. Throws REMOTE_CONFLICT when object storage has what this directory does not: it is an older copy.
 */
export function* positionAfter(
  { manifest, slices }: Claim,
  source: UploadSource,
): RemoteProcedure<{ readonly position: LogPosition | null; readonly lsn: number }> {
  const state = source.catalogState();
  if (manifest !== null && manifest.manifest.checkpointLsn > source.lastLsn) throw isOlder();
  const stored = manifest?.manifest.mark ?? null;
  if (stored !== null) {
    const isBehind = state === null || state.mark.sequence < stored.sequence;
    const isOther = state?.mark.sequence === stored.sequence && state.mark.nonce !== stored.nonce;
    if (isBehind || isOther) throw isOlder();
  }
  for (const { key } of slices.toReversed()) {
    const slice = yield* readSlice(sliceSequence(key)!);
    const last = slice?.pieces.at(-1);
    if (slice === null || last === undefined) continue;
    const { segment, offset, bytes } = last;
    const local = readLocal(source, segment, offset, bytes.length);
    const isCovered = slice.lastLsn <= (state?.checkpointLsn ?? 0);
    if (local === null && !isCovered) throw isOlder();
    if (local !== null && !equal(local, bytes)) throw isOlder();
    if (local === null) return { position: null, lsn: slice.lastLsn };
    return { position: { segment, offset: offset + bytes.length }, lsn: slice.lastLsn };
  }
  return { position: null, lsn: 0 };
}

function readLocal(
  { storage }: UploadSource,
  segment: number,
  offset: number,
  length: number,
): Uint8Array | null {
  const path = segmentPath(segment);
  if (!storage.existsSync(path)) return null;
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, file.readSync(offset, bytes));
  } finally {
    file.closeSync();
  }
}

function isOlder(): StoreError {
  return new StoreError(
    "REMOTE_CONFLICT",
    "Cannot upload: object storage has a newer state than this directory, which is an older copy of the store; open the store from object storage into a new directory",
  );
}
