/** Where a repair finds what a store has lost: a copy of its directory, or its copy in object storage. */
import { StoreError } from "../errors.ts";
import type { RepairSource } from "../integrity/repair-source.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { CopySource } from "./copy-source.ts";
import { isRemoteUrl } from "./open-remote.ts";
import { RemoteRepairSource, type RemoteSourceOptions } from "./remote-repair-source.ts";
import { HEADER_FILE, readHeader } from "./store-header.ts";

export interface OpenedSource extends RepairSource {
  close(): void;
}

/** `from`: the path of a copy or a URL; by default where the store uploads to. Null: nowhere. */
export async function openRepairSource(
  path: string,
  from: string | undefined,
  options: Partial<RemoteSourceOptions> = {},
): Promise<OpenedSource | null> {
  const storage = options.storage ?? openNodeStorage(path);
  if (from !== undefined && !isRemoteUrl(from)) return CopySource.open(from);
  const url = from ?? uploadUrl(storage);
  return url === null ? null : await RemoteRepairSource.open(url, { ...options, storage });
}

/** Null also when the header is too damaged to say. */
function uploadUrl(storage: RemoteSourceOptions["storage"]): string | null {
  if (!storage.existsSync(HEADER_FILE)) return null;
  try {
    return readHeader(storage).remote?.url ?? null;
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "CORRUPT_HEADER") throw error;
    return null;
  }
}
