import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { RefChange } from "../branch/refs.ts";
import { StoreError } from "../errors.ts";
import { encodeDelta } from "../page/page-delta.ts";
import {
  type CommitPart,
  CommitRecordWriter,
  decodeCommit,
  decodeCommitRecord,
  type DecodedFrame,
  decodeRefChange,
  encodeRefChange,
  RecordKind,
} from "./commit-record.ts";
import { FrameKind } from "./page-versions.ts";

interface Chunk {
  readonly id: Uint8Array;
  readonly place: { readonly pack: number; readonly offset: number; readonly length: number };
}

interface PartInput extends CommitPart {
  readonly chunks: readonly Chunk[];
}

/** Deltas are taken over as bytes. */
function encode(
  parts: readonly PartInput[],
  writer = new CommitRecordWriter(),
  transactionId: string | null = null,
): Uint8Array {
  writer.begin(transactionId);
  for (const part of parts) {
    writer.beginPart(part, part, part.chunks);
    for (const { page, kind, bytes, reference } of part.frames) {
      if (kind === FrameKind.zero) writer.zero(page);
      else if (kind === FrameKind.image) writer.image(page, bytes);
      else if (kind === FrameKind.delta) {
        const empty = new Uint8Array(0);
        writer.delta(page, empty, empty, bytes.length, (_before, _after, target, offset) => {
          target.set(bytes, offset);
          return bytes.length;
        });
      } else {
        const index = part.chunks.findIndex(({ id }) => Buffer.compare(id, reference!.id) === 0);
        writer.reference(page, index, reference!.slot);
      }
    }
    writer.endPart();
  }
  return writer.bytes.slice(0, writer.length);
}

const chunk: Chunk = {
  id: Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index),
  place: { pack: 7, offset: 2 ** 33, length: 4711 },
};

const sample: PartInput[] = [
  {
    databaseId: 1,
    timelineId: 2,
    version: 2 ** 40 + 3,
    timestampMs: 1_763_600_000_000,
    pageCount: 9,
    chunks: [chunk],
    frames: [
      { page: 1, kind: FrameKind.image, bytes: Uint8Array.of(1, 2, 3, 4), reference: null },
      { page: 3, kind: FrameKind.delta, bytes: Uint8Array.of(9, 8), reference: null },
      { page: 8, kind: FrameKind.zero, bytes: new Uint8Array(0), reference: null },
      {
        page: 9,
        kind: FrameKind.reference,
        bytes: new Uint8Array(0),
        reference: { ...chunk, slot: 63 },
      },
    ],
  },
  {
    databaseId: 4,
    timelineId: 5,
    version: 6,
    timestampMs: 7,
    pageCount: 0,
    chunks: [],
    frames: [],
  },
];

const GOLDEN: string = [
  "0200", // two parts
  "01000000", // first part: database id
  "02000000", // timeline id
  "0030000000007042", // version
  "00004006eca97942", // timestamp
  "09000000", // page count
  "01000000", // chunks
  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", // chunk id
  "07000000", // pack
  "0000000000000042", // offset
  "67120000", // length
  "04000000", // frames
  "01000000000400000001020304", // page 1: image
  "0300000001020000000908", // page 3: delta
  "080000000200000000", // page 8: zero
  "090000000305000000000000003f", // page 9: reference, chunk 0, slot 63
  "04000000", // second part: database id
  "05000000", // timeline id
  "0000000000001840", // version
  "0000000000001c40", // timestamp
  "00000000", // page count
  "00000000", // chunks
  "00000000", // frames
].join("");

const withoutChunks = ({ chunks: _chunks, ...part }: PartInput): CommitPart => part;

/** Compared as text: comparing large arrays element by element takes seconds. */
function asText(parts: readonly CommitPart[]): string {
  const frames = parts.map((part) =>
    part.frames.map(({ bytes, reference, ...frame }) => [
      frame,
      Buffer.from(bytes).toString("base64"),
      reference === null ? null : [reference.place, Buffer.from(reference.id).toString("hex")],
      reference?.slot,
    ]),
  );
  return JSON.stringify([parts.map((part) => ({ ...part, frames: null })), frames]);
}

describe("commit record", () => {
  test("golden bytes of an identified commit: its id, then the same; a plain one has none", () => {
    const id = "00112233445566778899aabbccddeeff";
    const writer = new CommitRecordWriter();
    encode(sample, writer); // The buffer is used again.
    expect(Buffer.from(encode(sample, writer, id)).toString("hex")).toBe(id + GOLDEN);
    const parts = sample.map(withoutChunks);
    const { commit, identifiedCommit, refChange } = RecordKind;
    expect([commit, refChange, identifiedCommit]).toEqual([1, 2, 3]);
    const bytes = Buffer.from(id + GOLDEN, "hex");
    expect(decodeCommitRecord(identifiedCommit, bytes, 1)).toEqual({ transactionId: id, parts });
    expect(decodeCommitRecord(commit, bytes.subarray(16), 1)).toEqual({
      transactionId: null,
      parts,
    });
    expect(Buffer.from(encode(sample, writer)).toString("hex")).toBe(GOLDEN);
    expect(decodeCommitRecord(refChange, bytes, 1)).toBeNull();
    for (let length = 0; length < bytes.length; length++)
      expect(
        () => decodeCommitRecord(identifiedCommit, bytes.subarray(0, length), 1),
        String(length),
      ).toThrow(expect.objectContaining({ code: "CORRUPT_LOG" }));
  });

  test("golden bytes", () => {
    expect(Buffer.from(encode(sample)).toString("hex")).toBe(GOLDEN);
    expect(decodeCommit(Buffer.from(GOLDEN, "hex"), 1)).toEqual(sample.map(withoutChunks));
  });

  test("any record is read as it was written, also out of a reused and growing buffer", () => {
    const writer = new CommitRecordWriter();
    fc.assert(
      fc.property(fc.array(partArbitrary, { maxLength: 4 }), (parts) => {
        const record = encode(parts, writer);
        expect(asText(decodeCommit(record, 1))).toBe(asText(parts.map(withoutChunks)));
      }),
      { numRuns: 100 },
    );
  });

  test("decoded frames own their bytes, also when the record is a Buffer", () => {
    const record = Buffer.from(encode(sample));
    const decoded = decodeCommit(record, 1);
    record.fill(0);
    expect(decoded).toEqual(sample.map(withoutChunks));
  });

  test("a real delta is written in place, or nothing of it", () => {
    const before = new Uint8Array(512);
    const after = before.slice().fill(7, 100, 110);
    const writer = new CommitRecordWriter();
    writer.begin();
    writer.beginPart(sample[1]!, sample[1]!, []);
    const { length } = writer;
    const other = Uint8Array.from({ length: 512 }, (_, index) => (index * 37) & 0xff);
    expect(writer.delta(2, before, other, 256, encodeDelta)).toBe(-1);
    expect(writer.length).toBe(length);
    const offset = writer.delta(2, before, after, 256, encodeDelta);
    expect(offset).toBe(length + 9);
    writer.endPart();
    const [part] = decodeCommit(writer.bytes.slice(0, writer.length), 1);
    expect(part!.frames).toHaveLength(1);
    expect(part!.frames[0]!.bytes).toEqual(writer.bytes.slice(offset, writer.length));
  });

  test("every truncation is CORRUPT_LOG, and so is a byte too many", () => {
    const record = encode(sample);
    for (let size = 0; size < record.length; size++)
      expect(() => decodeCommit(record.subarray(0, size), 9), `size ${size}`).toThrow(
        expect.objectContaining({ code: "CORRUPT_LOG" }),
      );
    const longer = new Uint8Array(record.length + 1);
    longer.set(record);
    expect(() => decodeCommit(longer, 9)).toThrow("Cannot read log record 9");
  });

  test("every bit flip is refused with a StoreError or read as some other record", () => {
    const record = encode(sample);
    let refused = 0;
    for (let bit = 0; bit < record.length * 8; bit++) {
      const damaged = record.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      try {
        decodeCommit(damaged, 1);
      } catch (error) {
        expect(error, `bit ${bit}`).toBeInstanceOf(StoreError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(200);
  });

  test("random bytes end in a StoreError or in parts no larger than they are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        let parts: CommitPart[];
        try {
          parts = decodeCommit(bytes, 1);
        } catch (error) {
          expect(error).toBeInstanceOf(StoreError);
          return;
        }
        const frames = parts.flatMap((part) => part.frames);
        expect(frames.length * 9).toBeLessThanOrEqual(bytes.length);
      }),
      { numRuns: 1000 },
    );
  });

  test("an unknown frame kind says that the store is newer", () => {
    const record = encode(sample);
    record[2 + 32 + 32 + 4 + 4] = 4;
    expect(() => decodeCommit(record, 3)).toThrow(
      expect.objectContaining({
        code: "STORE_FORMAT",
        message: "Cannot read log record 3: frame kind 4 is unknown; use a newer bough",
      }),
    );
  });

  test("a version that is no safe integer is damage", () => {
    for (const version of [NaN, Infinity, 0.5, -1, 2 ** 53]) {
      const record = encode([{ ...sample[1]!, version }]);
      expect(() => decodeCommit(record, 1), String(version)).toThrow(
        expect.objectContaining({ code: "CORRUPT_LOG" }),
      );
    }
  });
});

describe("ref change record", () => {
  const change: RefChange = {
    type: "create-branch",
    databaseId: 1,
    branchId: 2,
    name: "feature/auth",
    parentBranchId: 1,
    timelineId: 3,
    from: { timeline: 1, version: 120 },
    expiresAtMs: null,
    atMs: 1_763_600_000_000,
  };
  const json =
    '{"type":"create-branch","databaseId":1,"branchId":2,"name":"feature/auth","parentBranchId":1,' +
    '"timelineId":3,"from":{"timeline":1,"version":120},"expiresAtMs":null,"atMs":1763600000000}';

  test("golden bytes", () => {
    expect(Buffer.from(encodeRefChange(change)).toString()).toBe(json);
    expect(decodeRefChange(Buffer.from(json), 1)).toEqual(change);
  });

  test.each<[string, RefChange]>([
    [
      '{"type":"set-retention","databaseId":1,"branchId":null,"retention":{"everyCommitMs":0,"dailyMs":null}}',
      {
        type: "set-retention",
        databaseId: 1,
        branchId: null,
        retention: { everyCommitMs: 0, dailyMs: null },
      },
    ],
    [
      '{"type":"purge-branch","databaseId":1,"branchId":2}',
      { type: "purge-branch", databaseId: 1, branchId: 2 },
    ],
    ['{"type":"purge-database","databaseId":3}', { type: "purge-database", databaseId: 3 }],
    [
      '{"type":"purge-timelines","databaseId":1,"timelineIds":[2,5]}',
      { type: "purge-timelines", databaseId: 1, timelineIds: [2, 5] },
    ],
  ])("golden bytes of what retention logs: %s", (text, value) => {
    expect(Buffer.from(encodeRefChange(value)).toString()).toBe(text);
    expect(decodeRefChange(Buffer.from(text), 1)).toEqual(value);
  });

  test("every truncation is CORRUPT_LOG", () => {
    const bytes = encodeRefChange(change);
    for (let size = 0; size < bytes.length; size++)
      expect(() => decodeRefChange(bytes.subarray(0, size), 1), `size ${size}`).toThrow(
        expect.objectContaining({ code: "CORRUPT_LOG" }),
      );
  });

  test("a change that this version does not know is refused, not skipped", () => {
    for (const type of ["merge-branch", "toString", "__proto__"]) {
      const bytes = Buffer.from(JSON.stringify({ type, databaseId: 1 }));
      expect(() => decodeRefChange(bytes, 5)).toThrow(
        expect.objectContaining({
          code: "STORE_FORMAT",
          message: `Cannot read log record 5: the change "${type}" is unknown; use a newer bough`,
        }),
      );
    }
    for (const text of ["null", "1", "[]", "{}", '"create-tag"', '{"type":1}'])
      expect(() => decodeRefChange(Buffer.from(text), 5), text).toThrow(
        expect.objectContaining({ code: "CORRUPT_LOG" }),
      );
  });
});

const u32: fc.Arbitrary<number> = fc.nat(0xffff_ffff);

const chunkArbitrary: fc.Arbitrary<Chunk> = fc.record({
  id: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  place: fc.record({ pack: u32, offset: fc.maxSafeNat(), length: u32 }),
});

const partArbitrary: fc.Arbitrary<PartInput> = fc
  .record({
    databaseId: u32,
    timelineId: u32,
    version: fc.maxSafeNat(),
    timestampMs: fc.maxSafeNat(),
    pageCount: u32,
    chunks: fc.uniqueArray(chunkArbitrary, {
      maxLength: 3,
      selector: ({ id }) => Buffer.from(id).toString("hex"),
    }),
    raw: fc.array(
      fc.record({
        page: u32,
        kind: fc.constantFrom(...Object.values(FrameKind)),
        bytes: fc.oneof(
          fc.uint8Array({ maxLength: 40 }),
          fc.constant(new Uint8Array(70_000).fill(3)),
        ),
        index: fc.nat(2),
        slot: fc.nat(63),
      }),
      { maxLength: 6 },
    ),
  })
  .map(({ raw, ...part }) => ({
    ...part,
    frames: raw.flatMap(({ page, kind, bytes, index, slot }): DecodedFrame[] => {
      if (kind === FrameKind.zero)
        return [{ page, kind, bytes: new Uint8Array(0), reference: null }];
      if (kind !== FrameKind.reference) return [{ page, kind, bytes, reference: null }];
      const known = part.chunks[index];
      if (known === undefined) return [];
      return [{ page, kind, bytes: new Uint8Array(0), reference: { ...known, slot } }];
    }),
  }));
