/** A revision as a SQLite file, in the thread that has it: blocks of it are asked for, and handed over. */
import type { HostedThing } from "../../threads/hosted-service.ts";
import type { CallContext } from "../../threads/served.ts";
import type { RevisionBytes } from "../admin/admin-store.ts";

export type FileFacts = Pick<RevisionBytes, "version" | "pageSize" | "pageCount" | "size">;

export class PartitionFile implements HostedThing {
  readonly #file: RevisionBytes;

  constructor(file: RevisionBytes) {
    this.#file = file;
  }

  async answer(
    method: string,
    parameters: readonly unknown[],
    { limits, transfer }: CallContext,
  ): Promise<FileFacts | Uint8Array | null> {
    switch (method) {
      case "facts": {
        const { version, pageSize, pageCount, size } = this.#file;
        return { version, pageSize, pageCount, size };
      }
      case "read": {
        const [firstPage, bytes] = parameters as [number, number];
        const block = new Uint8Array(bytes);
        const count = await this.#file.read(firstPage, block, limits.signal);
        transfer.push(block.buffer);
        return block.subarray(0, count);
      }
      case "close":
        this.#file.close();
        return null;
      default:
        throw new TypeError(`A file has no "${method}"`);
    }
  }

  interrupt(): void {}
}
