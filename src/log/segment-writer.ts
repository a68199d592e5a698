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
  type RecordFields,
  recordNonce,
  recordSize,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
} from "./segment-format.ts";

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

  /** Adds a record whose payload is `source`[start, start + storedSize), stored as it is. Returns its size. */
  add(buffer: RecordBuffer, fields: RecordFields, source: Uint8Array, start: number): number {
    const { storedSize } = fields;
    const payloadAt = buffer.begin(this.offset, this.place, fields);
    const whole = start === 0 && storedSize === source.byteLength;
    const payload = whole ? source : source.subarray(start, start + storedSize);
    buffer.target().set(payload, payloadAt);
    return this.complete(buffer, payloadAt, storedSize);
  }

  /** Adds a record whose payload is all of `parts`; sealed when there is a cipher. Returns its size. */
  addParts(
    buffer: RecordBuffer,
    fields: RecordFields,
    parts: readonly Uint8Array[],
    cipher: StoreCipher | null,
  ): number {
    const { storedSize } = fields;
    const payloadAt = buffer.begin(this.offset, this.place, fields);
    const target = buffer.target();
    let at = payloadAt;
    for (const part of parts) {
      target.set(part, at);
      at += part.byteLength;
    }
    if (cipher !== null) {
      const options = {
        context: "log",
        salt: this.header.salt,
        nonce: recordNonce(this.offset),
        associatedData: target.subarray(payloadAt - RECORD_HEADER_SIZE, payloadAt),
      } as const;
      const sealed = cipher.seal(options, target.subarray(payloadAt, at));
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
    const storedSize = payload.byteLength;
    const fields = { kind: END_KIND, sealed: false, storedSize, lsn: lastLsn, durableLsn: lastLsn };
    const payloadAt = buffer.begin(this.offset, this.place, fields);
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
