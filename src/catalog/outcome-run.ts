/**
 * Transactions with an id that have committed, as a row of the catalog's table 0x0c; its key has the LSN of the last one.
 *
 * From 1 to OUTCOME_RUN_MAX entries, oldest first, big-endian; more where a database came from another partition, whose
 * transactions stand in one row then, after those of the partition's own up to that LSN:
 *
 * | size | field                            |
 * |------|----------------------------------|
 * | 16   | id of the transaction            |
 * | 4    | database id                      |
 * | 8    | version                          |
 * | 8    | timestamp, ms since 1970         |
 */
import { StoreError } from "../errors.ts";
import { ByteReader, ByteWriter } from "./record-codec.ts";

export interface OutcomeRow {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly databaseId: number;
  readonly version: number;
  readonly timestampMs: number;
}

/** In a row. */
export const OUTCOME_RUN_MAX = 128;
const ID_SIZE = 16;
const ENTRY_SIZE = 36;

export function encodeOutcomeRun(rows: readonly OutcomeRow[]): Uint8Array {
  const writer = new ByteWriter(rows.length * ENTRY_SIZE);
  for (const { id, databaseId, version, timestampMs } of rows)
    writer.raw(Buffer.from(id, "hex")).u32(databaseId).u64(version).u64(timestampMs);
  return writer.bytes;
}

/** Throws CORRUPT_CATALOG. */
export function decodeOutcomeRun(lsn: number, value: Uint8Array): OutcomeRow[] {
  if (value.length === 0 || value.length % ENTRY_SIZE !== 0)
    throw new StoreError(
      "CORRUPT_CATALOG",
      `Cannot read the catalog: the outcomes of transactions up to LSN ${lsn} have ${value.length} bytes`,
      { details: { lsn } },
    );
  const reader = new ByteReader(value);
  const rows: OutcomeRow[] = [];
  for (let left = value.length; left > 0; left -= ENTRY_SIZE)
    rows.push({
      id: Buffer.from(reader.raw(ID_SIZE)).toString("hex"),
      databaseId: reader.u32(),
      version: reader.u64(),
      timestampMs: reader.u64(),
    });
  return rows;
}
