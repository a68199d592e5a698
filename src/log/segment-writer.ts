import { invariant } from "../errors.ts";
import type { StoreCipher } from "../encryption/cipher.ts";
import type { StorageFile } from "../storage/storage.ts";
import type { SegmentTail } from "./log-recovery.ts";
import type { RecordBatch, RecordBuffer } from "./record-buffer.ts";
import type { SegmentFiles } from "./segment-files.ts";
import {
  CHECKSUM_SIZE,
  encodeEndPayload,
  END_KIND,
  END_RECORD_SIZE,
  placeSalt,
  type PlaceSalt,
  RECORD_HEADER_SIZE,
  RecordChain,
  recordNonce,
  recordSize,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
} from "./segment-format.ts";

/** Bytes of a payload: [start, end) of each part, one after the other. */
export interface PayloadParts {
  readonly parts: readonly Uint8Array[];
  readonly size: number;
}

/** The segment that is appended to: gives out places for records, and holds the file twice, see `durable`. */
export class SegmentWriter {
  readonly header: SegmentHeader;
  /** Writes are in the system's cache when they return. */
  readonly plain: StorageFile;
  /** Writes are durable when they return (S3): one call, where a write and a sync are two. */
  readonly durable: StorageFile;
  private readonly place: PlaceSalt;
  private readonly chain = new RecordChain();
  private recordCount = 0;
  private offset = SEGMENT_HEADER_SIZE;

  /** The segment of `header` must be active already. */
  constructor(files: SegmentFiles, header: SegmentHeader) {
    this.header = header;
    this.place = placeSalt(header.salt);
    this.plain = files.openSegmentSync(header.number, false);
    this.durable = files.openSegmentSync(header.number, true);
  }

  get usedBytes(): number {
    return this.offset;
  }

  hasRoomFor(size: number): boolean {
    return this.offset + size <= this.header.fileSize - END_RECORD_SIZE;
  }

  /** Adds a record whose payload is `source`[start, end), stored as it is. */
  add(
    buffer: RecordBuffer,
    record: { kind: number; lsn: number; durableLsn: number },
    source: Uint8Array,
    start: number,
    end: number,
  ): number {
    const storedSize = end - start;
    const fields = { ...record, sealed: false, storedSize };
    const payloadAt = buffer.begin(this.offset, this.place, fields);
    if (start === 0 && end === source.byteLength) buffer.target().set(source, payloadAt);
    else buffer.target().set(source.subarray(start, end), payloadAt);
    return this.complete(buffer, payloadAt, storedSize);
  }

  /** Adds a record whose payload is all of `parts`; sealed when there is a cipher. */
  addParts(
    buffer: RecordBuffer,
    record: { kind: number; lsn: number; durableLsn: number },
    payload: PayloadParts,
    sealing: { cipher: StoreCipher; tagSize: number } | null,
  ): number {
    const storedSize = payload.size + (sealing?.tagSize ?? 0);
    const fields = { ...record, sealed: sealing !== null, storedSize };
    const payloadAt = buffer.begin(this.offset, this.place, fields);
    const target = buffer.target();
    let at = payloadAt;
    for (const part of payload.parts) {
      target.set(part, at);
      at += part.byteLength;
    }
    if (sealing !== null) {
      const options = {
        context: "log",
        salt: this.header.salt,
        nonce: recordNonce(this.offset),
        associatedData: target.subarray(payloadAt - RECORD_HEADER_SIZE, payloadAt),
      } as const;
      const sealed = sealing.cipher.seal(options, target.subarray(payloadAt, at));
      invariant(
        sealed.byteLength === storedSize,
        `A sealed record of ${storedSize} bytes: the cipher made ${sealed.byteLength}`,
      );
      target.set(sealed, payloadAt);
    }
    return this.complete(buffer, payloadAt, storedSize);
  }

  writeSync(batch: RecordBatch, durable: boolean): void {
    const file = durable ? this.durable : this.plain;
    file.writeSync(batch.offset, batch.bytes.subarray(0, batch.size));
  }

  /** Durable when it resolves. */
  write(batch: RecordBatch): Promise<void> {
    return this.durable.write(batch.offset, batch.bytes.subarray(0, batch.size));
  }

  /** Writes the end record, durable; all records must be durable already. Then nothing can be added. */
  endSync(buffer: RecordBuffer): SegmentTail {
    invariant(buffer.size === 0, `An empty buffer at the end of a segment: ${buffer.size} bytes`);
    const lastLsn = this.header.firstLsn + this.recordCount - 1;
    const chain = this.chain.value();
    const payload = encodeEndPayload(this.recordCount, chain);
    const fields = { kind: END_KIND, lsn: lastLsn, durableLsn: lastLsn };
    const storedSize = payload.byteLength;
    const payloadAt = buffer.begin(this.offset, this.place, {
      ...fields,
      sealed: false,
      storedSize,
    });
    buffer.target().set(payload, payloadAt);
    buffer.finish(payloadAt, storedSize);
    this.writeSync(buffer.peek(), true);
    buffer.clear();
    const { number } = this.header;
    return { number, lastLsn, chain, closed: true, usedBytes: this.offset };
  }

  close(): void {
    this.plain.closeSync();
    this.durable.closeSync();
  }

  private complete(buffer: RecordBuffer, payloadAt: number, storedSize: number): number {
    const end = buffer.finish(payloadAt, storedSize);
    this.chain.add(buffer.target(), end - CHECKSUM_SIZE);
    this.recordCount++;
    const size = recordSize(storedSize);
    this.offset += size;
    return size;
  }
}
