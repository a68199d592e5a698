import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { CipherError, type SealOptions } from "./cipher.ts";
import { KeyRing, type KeyRingJson } from "./key-ring.ts";
import { findMasterKey, parseMasterKey } from "./master-key.ts";

const keyHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const master = parseMasterKey(keyHex);
const other = parseMasterKey(Buffer.alloc(32, 7));

/** A ring made once, so that the stored form and what it derives can never change unnoticed. */
const golden: KeyRingJson = JSON.parse(
  `{"version":1,"masterKeyId":"4f7f99cf487fdb39","activeKeyNumber":1,"dataKeys":[{"number":1,"wrapped":"2vCsyQhbMON+pLKNqdMHoADdz7rQhLtI2ctRztozlaLG8cbgyZmEJA/qTer1gnk3Esc8o/Ka1ZyJongM"}],"addressKey":"GLTNtd5FOsPGVPiaL6y50Y4NveOZbsr5ScgVPqgHp4RxbMu8hZgaha89MuLcF01uO50izzKfZXRnBTHb"}`,
);

const options: SealOptions = {
  context: "chunk",
  salt: new Uint8Array(0),
  nonce: Buffer.alloc(12, 1),
  associatedData: Buffer.from("header"),
};

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return error instanceof StoreError ? error.code : String(error);
  }
  return "no error";
}

describe("master key", () => {
  test("all forms give the same key", () => {
    const bytes = Buffer.from(keyHex, "hex");
    for (const form of [
      bytes,
      keyHex.toUpperCase(),
      ` ${keyHex}\n`,
      bytes.toString("base64"),
      bytes.toString("base64url"),
    ]) {
      expect(parseMasterKey(form)).toEqual(master);
    }
    expect(master.id).toBe("4f7f99cf487fdb39");
  });

  test.each([
    "",
    "secret",
    keyHex.slice(1),
    `${keyHex}00`,
    `${keyHex.slice(2)}zz`,
    Buffer.alloc(31),
    Buffer.alloc(33),
    `${"A".repeat(42)}B`,
  ])("%s is refused", (form) => {
    expect(codeOf(() => parseMasterKey(form))).toBe("KEY_INVALID");
  });

  test("a refusal does not show the key", () => {
    const almost = keyHex.slice(1);
    expect(() => parseMasterKey(almost)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining(almost.slice(0, 8)) }),
    );
  });

  test("option goes before file, file before environment", () => {
    const readFile = (path: string): Uint8Array =>
      Buffer.from(path === "raw" ? other.bytes : `${keyHex}\n`);
    const environment = { BOUGH_KEY: Buffer.alloc(32, 9).toString("hex") };
    expect(findMasterKey({ key: other.bytes, keyFile: "text", environment, readFile })?.id).toBe(
      other.id,
    );
    expect(findMasterKey({ keyFile: "text", environment, readFile })?.id).toBe(master.id);
    expect(findMasterKey({ keyFile: "raw", environment, readFile })?.id).toBe(other.id);
    expect(findMasterKey({ environment, readFile })?.bytes).toEqual(new Uint8Array(32).fill(9));
    expect(findMasterKey({ environment: { BOUGH_KEY: "" }, readFile })).toBeNull();
    expect(findMasterKey({ readFile })).toBeNull();
  });

  test("a bad key in the environment names the variable", () => {
    const readFile = (): Uint8Array => new Uint8Array(0);
    expect(() => findMasterKey({ environment: { BOUGH_KEY: "x" }, readFile })).toThrow(/BOUGH_KEY/);
  });
});

describe("key ring", () => {
  test("golden ring opens, and seals and addresses as ever", () => {
    const ring = KeyRing.open(golden, master);
    const sealed = ring.seal(options, Buffer.from("hello"));
    expect(Buffer.from(sealed).toString("hex")).toBe("9a1014a9bfa9352a1bdfb7dff6a81449366f73ef4c");
    const log = ring.seal(
      { ...options, context: "log", salt: Buffer.alloc(16, 2) },
      Buffer.from("hello"),
    );
    expect(Buffer.from(log).toString("hex")).toBe("907a45bcc1860db97ab037864434262f95b44cd87a");
    expect(Buffer.from(ring.address(Buffer.from("hello"))).toString("hex")).toBe(
      "9e276ea52478a3d94bd93d6773deb3f7",
    );
  });

  test("seal and open round trip in every context", () => {
    const ring = KeyRing.create(master);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 5000 }),
        fc.constantFrom("chunk" as const, "log" as const, "history" as const),
        fc.uint8Array({ maxLength: 32 }),
        fc.uint8Array({ minLength: 12, maxLength: 12 }),
        fc.uint8Array({ maxLength: 80 }),
        (plaintext, context, salt, nonce, associatedData) => {
          const sealing = { context, salt, nonce, associatedData };
          const sealed = ring.seal(sealing, plaintext);
          expect(sealed).toHaveLength(plaintext.length + 16);
          expect(ring.open({ ...sealing, keyNumber: 1 }, sealed)).toEqual(plaintext);
        },
      ),
    );
  });

  test("every single-bit flip and every truncation of sealed bytes is found", () => {
    const ring = KeyRing.create(master);
    const sealed = ring.seal(options, randomBytes(40));
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const damaged = sealed.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => ring.open({ ...options, keyNumber: 1 }, damaged), `bit ${bit}`).toThrow(
        CipherError,
      );
    }
    for (let size = 0; size < sealed.length; size++) {
      expect(() => ring.open({ ...options, keyNumber: 1 }, sealed.subarray(0, size))).toThrow(
        CipherError,
      );
    }
  });

  test.each([
    ["context", { context: "log" as const }],
    ["salt", { salt: Buffer.from("x") }],
    ["nonce", { nonce: Buffer.alloc(12, 2) }],
    ["associated data", { associatedData: Buffer.from("other") }],
  ])("bytes sealed with another %s do not open", (_name, changed) => {
    const ring = KeyRing.create(master);
    const sealed = ring.seal(options, randomBytes(40));
    expect(() => ring.open({ ...options, ...changed, keyNumber: 1 }, sealed)).toThrow(CipherError);
  });

  test("rotation keeps old bytes readable and ids the same, and seals with a new key", () => {
    const before = KeyRing.create(master);
    const sealed = before.seal(options, Buffer.from("old"));
    const stored: unknown = JSON.parse(JSON.stringify(before.rotate(other)));
    const after = KeyRing.open(stored, other);
    expect(after.activeKeyNumber).toBe(2);
    expect(Buffer.from(after.open({ ...options, keyNumber: 1 }, sealed)).toString()).toBe("old");
    expect(after.address(sealed)).toEqual(before.address(sealed));
    const resealed = after.seal(options, Buffer.from("old"));
    expect(resealed).not.toEqual(sealed);
    expect(() => after.open({ ...options, keyNumber: 1 }, resealed)).toThrow(CipherError);
    expect(codeOf(() => KeyRing.open(stored, master))).toBe("KEY_WRONG");
    expect(codeOf(() => before.open({ ...options, keyNumber: 2 }, resealed))).toBe("KEY_WRONG");
  });

  test("two rings of one master key share nothing", () => {
    const first = KeyRing.create(master);
    const second = KeyRing.create(master);
    expect(first.address(Buffer.from("a"))).not.toEqual(second.address(Buffer.from("a")));
    expect(() =>
      second.open({ ...options, keyNumber: 1 }, first.seal(options, randomBytes(4))),
    ).toThrow(CipherError);
  });

  test("a missing and a wrong key are told apart, with both ids", () => {
    expect(() => KeyRing.open(golden, null)).toThrow(
      expect.objectContaining({
        code: "KEY_REQUIRED",
        message: expect.stringContaining(master.id),
      }),
    );
    expect(() => KeyRing.open(golden, other)).toThrow(
      expect.objectContaining({
        code: "KEY_WRONG",
        message: expect.stringMatching(new RegExp(`${master.id}.*${other.id}`)),
      }),
    );
  });

  test("the stored form has no key in the clear", () => {
    const json = JSON.stringify(KeyRing.create(master));
    expect(json).not.toContain(Buffer.from(master.bytes).toString("base64").slice(0, 20));
    expect(Object.keys(JSON.parse(json))).toEqual([
      "version",
      "masterKeyId",
      "activeKeyNumber",
      "dataKeys",
      "addressKey",
    ]);
  });

  test("every changed character of the stored form is found", () => {
    const text = JSON.stringify(golden);
    for (let index = 0; index < text.length; index++) {
      const changed = text[index] === "A" ? "B" : "A";
      let damaged: unknown;
      try {
        damaged = JSON.parse(text.slice(0, index) + changed + text.slice(index + 1));
      } catch {
        continue; // no longer JSON: the header's reader reports that
      }
      expect(["CORRUPT_HEADER", "KEY_WRONG", "STORE_FORMAT"], `character ${index}`).toContain(
        codeOf(() => KeyRing.open(damaged, master)),
      );
    }
  });

  test("keys that changed places do not unwrap", () => {
    const { dataKeys, addressKey, ...rest } = KeyRing.create(master).toJSON();
    const swapped = {
      ...rest,
      dataKeys: [{ number: 1, wrapped: addressKey }],
      addressKey: dataKeys[0]!.wrapped,
    };
    expect(codeOf(() => KeyRing.open(swapped, master))).toBe("CORRUPT_HEADER");
  });

  test.each([null, 3, "x", [], {}, { version: 2 }])("%j is no key ring", (json) => {
    expect(["CORRUPT_HEADER", "STORE_FORMAT"]).toContain(codeOf(() => KeyRing.open(json, master)));
  });
});
