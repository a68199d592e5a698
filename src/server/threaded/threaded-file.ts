/** A revision as a SQLite file, from the thread that has it. One block is on its way at a time. */
import type { ServiceClient, ThingHandle } from "../../threads/service-client.ts";
import type { RevisionBytes } from "../admin/admin-store.ts";
import type { FileFacts } from "./partition-file.ts";

export class ThreadedFile implements RevisionBytes {
  readonly version: number;
  readonly pageSize: number;
  readonly pageCount: number;
  readonly size: number;
  readonly #thing: ThingHandle;
  #isClosed = false;

  private constructor(thing: ThingHandle, { version, pageSize, pageCount, size }: FileFacts) {
    this.#thing = thing;
    this.version = version;
    this.pageSize = pageSize;
    this.pageCount = pageCount;
    this.size = size;
  }

  static async open(client: ServiceClient, revision: string): Promise<ThreadedFile> {
    const thing = await client.open(revision, ["file", revision]);
    return new ThreadedFile(thing, (await thing.call("facts", [])) as FileFacts);
  }

  async read(firstPage: number, target: Uint8Array, signal?: AbortSignal): Promise<number> {
    const limits = signal === undefined ? {} : { signal };
    const block = await this.#thing.call("read", [firstPage, target.length], { limits });
    const bytes = block as Uint8Array;
    target.set(bytes);
    return bytes.length;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#thing.call("close", [], { isUnbounded: true }).catch(() => {}); // Lost with its thread.
  }
}
