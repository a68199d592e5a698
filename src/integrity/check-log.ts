/** Checks the log: every record of every segment, and that commits in it can be read. */
import { applyRefChange, type RefState } from "../branch/refs.ts";
import { type ChunkPlace, hasSlot } from "../catalog/catalog.ts";
import { InvariantError, StoreError } from "../errors.ts";
import { LogReader } from "../log/log-reader.ts";
import { idKey } from "../page/chunk-handle.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { decodeCommitRecord, decodeRefChange, RecordKind } from "../transaction/commit-record.ts";
import type { Findings } from "./report.ts";
import type { LoggedSpan } from "./revision-index.ts";

/** A page that a commit in the log has in a chunk. */
export interface LoggedReference {
  readonly databaseId: number;
  readonly timeline: number;
  readonly version: number;
  readonly chunkId: Uint8Array;
  readonly slot: number;
}

export interface LogContents {
  readonly references: LoggedReference[];
  /** Where chunks are that the catalog does not know, or not whole, by id. */
  readonly places: Map<string, ChunkPlace>;
  /** By database and timeline. */
  readonly spans: Map<string, LoggedSpan>;
  /** Records are missing: nothing says which branches they would have changed. */
  readonly isDamaged: boolean;
}

export interface LogCheckRequest {
  readonly parts: StoreParts;
  readonly findings: Findings;
  readonly afterLsn: number;
  /** Gets the changes of names that the log holds; null where that happened when the store was opened. */
  readonly refs: RefState | null;
  /** Heads that cannot be read when the log is damaged; asked for at the end. */
  readonly heads: () => Iterable<string>;
}

export function checkLog(request: LogCheckRequest): LogContents {
  const { parts, findings, afterLsn } = request;
  const { storage, storeId, cipher } = parts;
  const contents: LogContents = {
    references: [],
    places: new Map(),
    spans: new Map(),
    isDamaged: false,
  };
  const damage: unknown[] = [];
  try {
    for (const entry of new LogReader({ storage, storeId, cipher, afterLsn }).entries()) {
      if (entry.type === "segment") findings.counts.logSegments++;
      else if (entry.type === "damage") damage.push(entry.error);
      else if (entry.type === "record") {
        findings.counts.logRecords++;
        if (entry.lsn <= afterLsn) continue;
        try {
          readRecord(request, contents, entry);
        } catch (error) {
          damage.push(error);
        }
      }
    }
  } catch (error) {
    damage.push(error);
  }
  for (const error of damage) {
    const known =
      error instanceof InvariantError
        ? new StoreError("CORRUPT_LOG", `Cannot apply the log: ${error.message}`)
        : error;
    findings.addDamage({ kind: "log" }, known, request.heads());
  }
  return { ...contents, isDamaged: damage.length > 0 };
}

function readRecord(
  { refs, parts }: LogCheckRequest,
  { references, places, spans }: LogContents,
  { lsn, kind, payload }: { lsn: number; kind: number; payload: Uint8Array },
): void {
  if (kind === RecordKind.refChange) {
    const change = decodeRefChange(payload, lsn);
    if (refs !== null) applyRefChange(refs, change);
    return;
  }
  for (const part of decodeCommitRecord(kind, payload, lsn)?.parts ?? []) {
    const { databaseId, timelineId: timeline, version, frames } = part;
    const span = spans.get(`${databaseId}/${timeline}`);
    if (span !== undefined) span.last = version;
    else
      spans.set(`${databaseId}/${timeline}`, {
        databaseId,
        timeline,
        first: version,
        last: version,
      });
    for (const { reference } of frames) {
      if (reference === null) continue;
      const { id: chunkId, place, slot } = reference;
      if (isNewer(parts, chunkId, slot)) places.set(idKey(chunkId), place);
      references.push({ databaseId, timeline, version, chunkId, slot });
    }
  }
}

/** Whether a record knows better than the catalog where a chunk is: V2 in recovery.ts. */
function isNewer({ catalog }: StoreParts, chunkId: Uint8Array, slot: number): boolean {
  try {
    const known = catalog.chunk(chunkId);
    return known === undefined || !hasSlot(known, slot);
  } catch (error) {
    if (error instanceof StoreError) return true; // Its damage is reported with the row.
    throw error;
  }
}
