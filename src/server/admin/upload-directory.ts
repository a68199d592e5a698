/**
 * Files on their way into the store: the body of a request, written to a file in the store's directory and imported from there.
 *
 *   (none) --receive--> arriving --all of it is there--> received --delete()--> (none)
 *                          \--too large, the client goes, the disk is full--> (none)
 *
 * E1. A file is here only while its request or its import runs. What a killed process left goes when the store is served next.
 * E2. Memory is bounded: the client is read no faster than the disk takes it.
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

  /** Of a store's directory, which no other process has open. */
  constructor(storeDirectory: string) {
    this.#directory = join(storeDirectory, UPLOAD_DIRECTORY);
    this.#storage = openNodeStorage(this.#directory);
    for (const name of this.#storage.listSync(""))
      if (NAME.test(name)) this.#storage.deleteSync(name); // E1.
  }

  /** Throws REQUEST_TOO_LARGE, DISK_FULL, or what ended the connection. */
  async receive(request: IncomingMessage, bytesMax: number): Promise<ReceivedFile> {
    if (Number(request.headers["content-length"] ?? 0) > bytesMax) throw tooLarge(bytesMax);
    letBodyCome(request);
    this.#storage.makeDirectorySync("");
    const name = `${randomBytes(12).toString("hex")}.upload`;
    const remove = (): void => {
      if (this.#storage.existsSync(name)) this.#storage.deleteSync(name);
    };
    const file = this.#storage.openFileSync(name, { mode: "create" });
    try {
      const size = await writeBody(request, file, bytesMax).finally(() => file.closeSync());
      return { path: join(this.#directory, name), size, delete: remove };
    } catch (error) {
      remove();
      throw error;
    }
  }
}

async function writeBody(
  request: IncomingMessage,
  file: StorageFile,
  bytesMax: number,
): Promise<number> {
  let size = 0;
  // The connection is still needed to say what is wrong.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const bytes: Uint8Array = chunk;
    if (size + bytes.length > bytesMax) throw tooLarge(bytesMax);
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
