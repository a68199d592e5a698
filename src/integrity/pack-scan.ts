/**
 * Finds chunks in pack files without the chunk index: what seems to begin one, at every multiple of 8. Only the id and the
 * sizes are looked at; who uses a chunk verifies it.
 */
import type { ChunkPlace } from "../catalog/catalog.ts";
import { CHUNK_HEADER_SIZE, CHUNK_ID_SIZE, CHUNK_SIZE_MAX } from "../page/chunk-format.ts";
import { idKey } from "../page/chunk-handle.ts";
import { PACK_DIRECTORY, PACK_HEADER_SIZE, packNumber } from "../page/pack-format.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { nextTurn } from "./report.ts";

const MAGIC = 0x4b48_4342; // "BCHK", see chunk-format.ts
const BODY_SIZE_OFFSET = 28;
const ID_OFFSET = 32;
const CRC_SIZE = 8;
const WINDOW_SIZE = 1 << 20;

/** Where chunks with these ids may be, by id; the newest pack first. */
export async function findChunks(
  storage: Storage,
  wanted: ReadonlySet<string>,
): Promise<Map<string, ChunkPlace[]>> {
  const found = new Map<string, ChunkPlace[]>();
  for (const name of storage.listSync(PACK_DIRECTORY).reverse()) {
    const pack = packNumber(name);
    if (pack === null) continue;
    const file = storage.openFileSync(`${PACK_DIRECTORY}/${name}`, { mode: "read" });
    try {
      for (const { key, offset, length } of chunksOf(file)) {
        if (key === null) await nextTurn();
        else if (wanted.has(key))
          found.set(key, [...(found.get(key) ?? []), { pack, offset, length }]);
      }
    } finally {
      file.closeSync();
    }
  }
  return found;
}

/** `key` is null once for every part of the file that was read. */
function* chunksOf(
  file: StorageFile,
): Generator<{ key: string | null; offset: number; length: number }> {
  const size = file.sizeSync();
  const window = new Uint8Array(WINDOW_SIZE + CHUNK_HEADER_SIZE);
  const view = new DataView(window.buffer);
  for (let start = 0; start < size; start += WINDOW_SIZE) {
    yield { key: null, offset: start, length: 0 };
    const count = file.readSync(start, window);
    // A damaged size must not hide what follows, so no chunk is stepped over.
    for (let at = 0; at < WINDOW_SIZE && at + CHUNK_HEADER_SIZE <= count; at += 8) {
      if (view.getUint32(at, true) !== MAGIC || start + at < PACK_HEADER_SIZE) continue;
      const length = CHUNK_HEADER_SIZE + view.getUint32(at + BODY_SIZE_OFFSET, true) + CRC_SIZE;
      if (length > CHUNK_SIZE_MAX || start + at + length > size) continue;
      yield {
        key: idKey(window.subarray(at + ID_OFFSET, at + ID_OFFSET + CHUNK_ID_SIZE)),
        offset: start + at,
        length,
      };
    }
  }
}
