import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import { crc64Into } from "../storage/crc64.ts";
import {
  chunkId,
  decodeChunk,
  type DecodeChunkOptions,
  encodeChunk,
  encodeChunkAsync,
  type EncodedChunk,
} from "./chunk-format.ts";
import { Codec } from "./compression.ts";

const cipher = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
const place = "chunks/00000001.pack at 40";

/** Pages of 512 bytes: page n begins with n and 7, the rest is zeros. */
function somePages(count: number): Uint8Array {
  const pages = new Uint8Array(count * 512);
  for (let page = 0; page < count; page++) pages.set([page, 7], page * 512);
  return pages;
}

function reader(
  chunk: EncodedChunk,
  changes: Partial<DecodeChunkOptions> = {},
): DecodeChunkOptions {
  return { expectedId: chunk.id, cipher: null, place, ...changes };
}

/** After a change to its bytes: as a forger would, who knows the format. */
function withNewCrc(bytes: Uint8Array): Uint8Array {
  crc64Into(bytes, 0, bytes.length - 8, bytes, bytes.length - 8);
  return bytes;
}

function errorOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  return null;
}

function expectCorrupt(bytes: Uint8Array, options: DecodeChunkOptions, note: string): void {
  const error = errorOf(() => decodeChunk(bytes, options));
  const name = Buffer.from(options.expectedId).toString("hex");
  expect(error, note).toBeInstanceOf(StoreError);
  expect(error, note).toMatchObject({
    code: "CORRUPT_CHUNK",
    message: expect.stringContaining(`Cannot read chunk ${name} in "${place}": `),
  });
}

describe("chunk", () => {
  test("golden bytes, raw", () => {
    const pages = Uint8Array.from({ length: 512 }, (_, index) => (index * index) >> 3);
    const { id, bytes } = encodeChunk({ pages, pageSize: 512, codec: Codec.raw, cipher: null });
    expect(Buffer.from(id).toString("hex")).toBe("330806d83fe0f65f67a62629d07fb85c");
    expect(Buffer.from(bytes.subarray(0, 64)).toString("hex")).toBe(
      "4243484b01000009" +
        "0100000000000000" +
        "0100000000000000" +
        "0002000000020000" +
        "330806d83fe0f65f67a62629d07fb85c" +
        "00".repeat(16),
    );
    expect(bytes.subarray(64, 576)).toEqual(pages);
    expect(Buffer.from(bytes.subarray(576)).toString("hex")).toBe("af02a884ede9513b");
  });

  test("golden bytes, lz4, decode for ever", () => {
    const bytes = Buffer.from(
      "4243484b0101000903000000000000000700000000000000000600001f00000088e4bd0c28e77046e5931c790c69a68600000000000000000000000000000000000600003f0007000100ffeb1f010002ffed1f020002ffe760000000000000662e62a2920c5de6",
      "hex",
    );
    const id = chunkId(somePages(3), 512, null);
    const chunk = decodeChunk(bytes, { expectedId: id, cipher: null, place, verifyId: true });
    expect(chunk.pages).toEqual(somePages(3));
  });

  test("golden bytes, zstd, decode for ever, on every Node", () => {
    const bytes = Buffer.from(
      "4243484b0102000903000000000000000700000000000000000600001b00000088e4bd0c28e77046e5931c790c69a6860000000000000000000000000000000028b52ffd6000058d000028000700010203042cfc40f80788ab0f865f7202a4d9f2323b",
      "hex",
    );
    const id = chunkId(somePages(3), 512, null);
    const chunk = decodeChunk(bytes, { expectedId: id, cipher: null, place, verifyId: true });
    expect(chunk.pages).toEqual(somePages(3));
  });

  test("round trip, sync and async alike, and the codec is raw where lz4 does not shrink", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(512, 4096, 65536),
        fc.integer({ min: 1, max: 64 }),
        fc.infiniteStream(fc.nat(255)),
        fc.boolean(),
        fc.boolean(),
        async (pageSize, count, stream, isEncrypted, isRandom) => {
          const pages = new Uint8Array(count * pageSize);
          const length = isRandom && pageSize === 512 ? pages.length : 40;
          pages.set([...stream.take(length)]);
          const nonce = new Uint8Array(12).fill(1);
          const options = {
            pages,
            pageSize,
            codec: Codec.lz4,
            cipher: isEncrypted ? cipher : null,
            nonce,
          };
          const chunk = encodeChunk(options);
          expect(await encodeChunkAsync(options)).toEqual(chunk);
          const isRaw = chunk.bytes[5] === Codec.raw;
          expect(chunk.bytes.length < pages.length || isRaw).toBe(true);
          const decoded = decodeChunk(
            chunk.bytes,
            reader(chunk, { cipher: options.cipher, verifyId: true }),
          );
          expect(decoded).toMatchObject({ pageSize, slotCount: count, isComplete: true });
          expect(Buffer.compare(decoded.pages, pages)).toBe(0);
          const last = decoded.page(count - 1);
          expect(Buffer.compare(last!, pages.subarray(-pageSize))).toBe(0);
          expect(decoded.page(count)).toBeNull();
        },
      ),
      { numRuns: 40 },
    );
  });

  test("the id depends on pages, page size and address key", () => {
    const pages = somePages(2);
    const ids = [
      chunkId(pages, 512, null),
      chunkId(pages, 1024, null),
      chunkId(somePages(1), 512, null),
      chunkId(pages, 512, cipher),
      chunkId(pages, 512, KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)))),
    ];
    expect(new Set(ids.map((id) => Buffer.from(id).toString("hex"))).size).toBe(5);
    expect(chunkId(pages, 512, cipher.rotate(parseMasterKey(Buffer.alloc(32, 4))))).toEqual(ids[3]);
  });

  test("equal pages are sealed differently each time, under the same id", () => {
    const options = { pages: somePages(2), pageSize: 512, codec: Codec.lz4, cipher };
    const [first, second] = [encodeChunk(options), encodeChunk(options)];
    expect(first.id).toEqual(second.id);
    expect(first.bytes.subarray(64)).not.toEqual(second.bytes.subarray(64));
  });

  test.each([false, true])(
    "every single-bit flip and every truncation is found, encrypted: %s",
    (isEncrypted) => {
      const options = {
        pages: somePages(4),
        pageSize: 512,
        codec: Codec.lz4,
        cipher: isEncrypted ? cipher : null,
      };
      const chunk = encodeChunk(options);
      const reading = reader(chunk, { cipher: options.cipher });
      expect(chunk.bytes.length).toBeLessThan(200);
      for (let bit = 0; bit < chunk.bytes.length * 8; bit++) {
        const damaged = chunk.bytes.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        expectCorrupt(damaged, reading, `bit ${bit}`);
      }
      for (let size = 0; size < chunk.bytes.length; size++) {
        expectCorrupt(chunk.bytes.subarray(0, size), reading, `size ${size}`);
      }
    },
  );

  test("a flipped bit with a forged checksum does not pass the tag", () => {
    const chunk = encodeChunk({ pages: somePages(4), pageSize: 512, codec: Codec.lz4, cipher });
    const formatBytes = new Set([4, 5, 6]); // refused as a newer format before the tag is tried
    for (let bit = 0; bit < (chunk.bytes.length - 8) * 8; bit++) {
      const damaged = chunk.bytes.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const error = errorOf(() => decodeChunk(withNewCrc(damaged), reader(chunk, { cipher })));
      const code = error instanceof StoreError ? error.code : String(error);
      const expected = [
        "CORRUPT_CHUNK",
        "KEY_WRONG",
        ...(formatBytes.has(bit >> 3) ? ["STORE_FORMAT"] : []),
      ];
      expect(expected, `bit ${bit}`).toContain(code);
    }
  });

  test("a forged size makes no allocation", () => {
    const chunk = encodeChunk({
      pages: somePages(4),
      pageSize: 512,
      codec: Codec.lz4,
      cipher: null,
    });
    const forged = chunk.bytes.slice();
    new DataView(forged.buffer).setUint32(64, 0xffff_fff0, true);
    expectCorrupt(withNewCrc(forged), reader(chunk), "size before the lz4 block");
    new DataView(forged.buffer).setUint32(24, 0xffff_fff0, true);
    expectCorrupt(withNewCrc(forged), reader(chunk), "both sizes");
  });

  test("verifyId finds pages that were replaced, with all checksums right", () => {
    const chunk = encodeChunk({
      pages: somePages(4),
      pageSize: 512,
      codec: Codec.raw,
      cipher: null,
    });
    const forged = chunk.bytes.slice();
    forged[100] = 1;
    withNewCrc(forged);
    expect(decodeChunk(forged, reader(chunk)).pages[36]).toBe(1);
    expectCorrupt(forged, reader(chunk, { verifyId: true }), "forged page");
  });

  test("another chunk in the place is refused", () => {
    const chunk = encodeChunk({
      pages: somePages(4),
      pageSize: 512,
      codec: Codec.raw,
      cipher: null,
    });
    expectCorrupt(chunk.bytes, reader(chunk, { expectedId: new Uint8Array(16) }), "other id");
  });

  test("keys: a sealed chunk needs its cipher, and a store with a cipher takes no open chunk", () => {
    const sealed = encodeChunk({ pages: somePages(1), pageSize: 512, codec: Codec.raw, cipher });
    const open = encodeChunk({
      pages: somePages(1),
      pageSize: 512,
      codec: Codec.raw,
      cipher: null,
    });
    expect(errorOf(() => decodeChunk(sealed.bytes, reader(sealed)))).toMatchObject({
      code: "KEY_REQUIRED",
    });
    expectCorrupt(open.bytes, reader(open, { cipher }), "not sealed");
  });

  test.each([0, 511, 512 * 65])("%i bytes are no chunk of 512-byte pages", (size) => {
    const pages = new Uint8Array(size);
    expect(() => encodeChunk({ pages, pageSize: 512, codec: Codec.raw, cipher: null })).toThrow(
      RangeError,
    );
  });

  test.each([0, 256, 1000, 131072])("page size %i is refused", (pageSize) => {
    const pages = new Uint8Array(pageSize || 512);
    expect(() => encodeChunk({ pages, pageSize, codec: Codec.raw, cipher: null })).toThrow(
      RangeError,
    );
  });
});

describe("chunk with holes", () => {
  const whole = encodeChunk({
    pages: somePages(64),
    pageSize: 512,
    codec: Codec.lz4,
    cipher: null,
  });

  test("keeps its id and the present pages; a hole is never a page", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
        fc.boolean(),
        (present, isEncrypted) => {
          const slots = [...Array(64).keys()].filter(
            (slot) => ((present >> BigInt(slot)) & 1n) === 1n,
          );
          const all = somePages(64);
          const pages = Buffer.concat(
            slots.map((slot) => all.subarray(slot * 512, slot * 512 + 512)),
          );
          const used = isEncrypted ? cipher : null;
          // Without a hole the id is verified: it is that of the pages under this cipher.
          const id = chunkId(all, 512, used);
          const holes = { id, slotCount: 64, present };
          const chunk = encodeChunk({
            pages,
            pageSize: 512,
            codec: Codec.lz4,
            cipher: used,
            holes,
          });
          expect(chunk.id).toEqual(id);
          const decoded = decodeChunk(chunk.bytes, reader(chunk, { cipher: used, verifyId: true }));
          for (let slot = 0; slot < 64; slot++) {
            expect(decoded.page(slot)?.[0] ?? null).toBe(slots.includes(slot) ? slot : null);
          }
          expect(decoded.isComplete).toBe(present === 2n ** 64n - 1n);
        },
      ),
      {
        numRuns: 50,
        examples: [
          [2n ** 64n - 1n, true],
          [2n ** 64n - 1n, false],
        ],
      },
    );
  });

  test.each([
    ["no present slot", 2, 0n, 1],
    ["a slot past the count", 2, 4n, 1],
    ["more slots than pages", 3, 7n, 2],
    ["65 slots", 65, 1n, 1],
  ])("%s is refused", (_name, slotCount, present, count) => {
    const holes = { id: whole.id, slotCount, present };
    const pages = somePages(count);
    expect(() =>
      encodeChunk({ pages, pageSize: 512, codec: Codec.raw, cipher: null, holes }),
    ).toThrow(RangeError);
  });
});
