/**
 * Files on their way into the store: the body of a request, written to a file in the store's directory and imported from there.
 *
 *   (none) --receive--> arriving --all of it is there--> received --delete()--> (none)
 *                          \--too large, the client goes, the disk is full--> (none)
 *
 * E1. A file is here only while its request or its import runs. What a killed process left goes when the store is served next.
 * E2. Memory is bounded: the client is read no faster than the disk takes it.
 * E3. So is the disk: all files here together have as many bytes as one may have.
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { StoreError } from "../../errors.ts";
import { letBodyCome } from "../http-exchange.ts";
import { openNodeStorage } from "../../storage/node-storage.ts";
import type { Storage, StorageFile } from "../../storage/storage.ts";

export const UPLOAD_DIRECTORY = "uploads";
const NAME = /^[0-9a-f]{24}\.upload$/;

export interface ReceivedFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  delete(): void;
}

export class UploadDirectory {
  readonly #storage: Storage;
  readonly #directory: string;
  /** E3: what is here, and what requests have said is to come. */
  #heldBytes = 0;

  /** Of a store's directory, which no other process has open. */
  constructor(storeDirectory: string) {
    this.#directory = join(storeDirectory, UPLOAD_DIRECTORY);
    this.#storage = openNodeStorage(this.#directory);
    for (const name of this.#storage.listSync(""))
      if (NAME.test(name)) this.#storage.deleteSync(name); // E1.
  }

  /** Throws REQUEST_TOO_LARGE, LIMIT when others have the room, DISK_FULL, or what ended the connection. */
  async receive(request: IncomingMessage, bytesMax: number): Promise<ReceivedFile> {
    let held = 0;
    const hold = (size: number): void => {
      if (size > bytesMax) throw tooLarge(bytesMax);
      if (size <= held) return;
      if (this.#heldBytes + size - held > bytesMax) throw noRoom(bytesMax);
      this.#heldBytes += size - held;
      held = size;
    };
    hold(Number(request.headers["content-length"] ?? 0));
    const name = `${randomBytes(12).toString("hex")}.upload`;
    const remove = (): void => {
      this.#heldBytes -= held;
      held = 0;
      if (this.#storage.existsSync(name)) this.#storage.deleteSync(name);
    };
    try {
      letBodyCome(request);
      this.#storage.makeDirectorySync("");
      const file = this.#storage.openFileSync(name, { mode: "create" });
      const size = await writeBody(request, file, hold).finally(() => file.closeSync());
      return { path: join(this.#directory, name), size, delete: remove };
    } catch (error) {
      remove();
      throw error;
    }
  }
}

/** `hold` throws when there is no room for so many bytes. */
async function writeBody(
  request: IncomingMessage,
  file: StorageFile,
  hold: (size: number) => void,
): Promise<number> {
  let size = 0;
  // The connection is still needed to say what is wrong.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const bytes: Uint8Array = chunk;
    hold(size + bytes.length);
    await file.write(size, bytes);
    size += bytes.length;
  }
  if (!request.complete) throw new Error("The client has gone");
  return size;
}

function tooLarge(bytesMax: number): StoreError {
  return new StoreError(
    "REQUEST_TOO_LARGE",
    `Cannot take the file: it has more than ${bytesMax} bytes`,
    { details: { bytesMax } },
  );
}

function noRoom(bytesMax: number): StoreError {
  return new StoreError(
    "LIMIT",
    `Cannot take the file now: with those that others upload it has more than ${bytesMax} bytes`,
    { retryable: true, details: { bytesMax } },
  );
}
