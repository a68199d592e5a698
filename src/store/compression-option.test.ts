import { expect, test } from "vitest";

import { canCompressZstd, Codec } from "../page/compression.ts";
import { PACK_DIRECTORY } from "../page/pack-format.ts";
import { readFileSync } from "../storage/whole-file.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { codecOf, isCompression, requireCompression } from "./compression-option.ts";
import { openStore, type Store } from "./store.ts";
import { readHeader, writeHeader } from "./store-header.ts";

test("names are none, lz4, zstd and zstd with a level from 1 to 22", () => {
  const levels = Array.from({ length: 22 }, (_, index) => `zstd:${index + 1}`);
  for (const name of ["none", "lz4", "zstd", ...levels])
    expect(isCompression(name), name).toBe(true);
  for (const name of [
    "",
    "zip",
    "zstd:",
    "zstd:0",
    "zstd:23",
    "zstd:1.5",
    "zstd:-1",
    "lz4:1",
    3,
    null,
  ])
    expect(isCompression(name), String(name)).toBe(false);
  expect(() => requireCompression("Option", "zstd:99")).toThrow(TypeError);
});

test("zstd is refused where the runtime cannot write it, and a store that has it recorded goes on with lz4", () => {
  expect(codecOf("none")).toBe(Codec.raw);
  expect(codecOf("lz4")).toBe(Codec.lz4);
  if (canCompressZstd()) {
    expect(codecOf("zstd")).toBe(Codec.zstd);
    expect(codecOf("zstd:19")).toEqual({ codec: Codec.zstd, level: 19 });
  } else {
    expect(codecOf("zstd:19")).toBe(Codec.lz4);
    expect(() => requireCompression("Option", "zstd")).toThrow(
      expect.objectContaining({ code: "STORE_FORMAT" }),
    );
  }
});

function write(store: Store, text: string): void {
  using connection = store.connect("shop");
  connection.prepare("INSERT INTO item VALUES (?)").run(text.repeat(2000));
  store.checkpoint();
}

/** The newest chunk's codec, as its header has it. */
function lastCodec(storage: SimulatedStorage): number | undefined {
  const name = storage.listSync(PACK_DIRECTORY).at(-1);
  const bytes = Buffer.from(readFileSync(storage, `${PACK_DIRECTORY}/${name}`));
  return bytes[bytes.lastIndexOf("BCHK") + 5];
}

test("the option is recorded in a new store; later opens and setCompression change new chunks only", () => {
  const storage = new SimulatedStorage();
  let store = openStore("", { storage, backend: "memory", compression: "none" });
  store.createDatabase("shop");
  store.connect("shop").exec("CREATE TABLE item(text)");
  write(store, "one");
  expect(lastCodec(storage)).toBe(Codec.raw);
  store.close();

  store = openStore("", { storage });
  expect(store.info().compression).toBe("none");
  store.setCompression("lz4");
  write(store, "two");
  expect(lastCodec(storage)).toBe(Codec.lz4);
  store.close();

  store = openStore("", { storage, compression: "none" });
  write(store, "three");
  expect(lastCodec(storage)).toBe(Codec.raw);
  expect(store.info().compression).toBe("lz4");
  store.close();

  writeHeader(storage, { ...readHeader(storage), compression: "zstd:19" });
  store = openStore("", { storage });
  write(store, "four");
  expect(lastCodec(storage)).toBe(canCompressZstd() ? Codec.zstd : Codec.lz4);
  const all = store.connect("shop").prepare("SELECT substr(text, 1, 3) AS t FROM item").all();
  expect(all).toEqual([{ t: "one" }, { t: "two" }, { t: "thr" }, { t: "fou" }]);
  store.close();
});
