/**
 * SQLite files of this machine, to and from a server.
 *
 * U1. What is sent is what an import here would read: the file with the committed changes of its write-ahead log, in one state. The last block
 *     is held back until that is certain, and a server imports nothing of a file that is not whole.
 * U2. A file that is written has its name when all of it is there and on disk (Y1 in store/export-file.ts).
 */
import { MAIN_BRANCH } from "../../branch/refs.ts";
import { parseRevision } from "../../branch/revision.ts";
import { replaceFile, type ExportOptions, type ExportResult } from "../../store/export-file.ts";
import type { ImportOptions, ImportResult } from "../../store/import-file.ts";
import { SqliteSource } from "../../store/sqlite-source.ts";
import type { HttpClient } from "./http-client.ts";
import { answerInvalid } from "./server-error.ts";
import { runJob } from "./served-jobs.ts";

export async function uploadFile(
  client: HttpClient,
  path: string,
  { revision, onProgress, signal }: ImportOptions & { readonly revision: string },
): Promise<ImportResult> {
  const source = await SqliteSource.open(path);
  try {
    const { size: totalBytes, walCommits } = source;
    const tell = (bytes: number): void => onProgress?.({ bytes, totalBytes });
    const request = {
      method: "PUT",
      path: pathOfFile(revision),
      upload: { bytes: totalBytes, blocks: wholeBlocks(source, tell) },
      headers: { "content-type": "application/vnd.sqlite3", prefer: "respond-async" },
    } as const;
    const result = await runJob(client, request, {
      onProgress: ({ done }) => tell(done),
      signal,
    });
    // The server has seen no log.
    return { ...(result as ImportResult), walCommits };
  } finally {
    source.close();
  }
}

/** U1. */
async function* wholeBlocks(
  source: SqliteSource,
  onSent: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const { pageSize, pageCount } = source;
  for await (const { firstPage, count, bytes } of source.blocks()) {
    if (firstPage + count > pageCount) source.assertUnchanged();
    yield bytes.subarray(0, count * pageSize);
    onSent((firstPage + count - 1) * pageSize);
  }
}

export async function downloadFile(
  client: HttpClient,
  path: string,
  options: ExportOptions & { readonly revision: string; readonly pageSize: number },
): Promise<ExportResult> {
  const { revision, pageSize, onProgress, signal } = options;
  return await replaceFile(path, options, async (file) => {
    const query = `?revision=${encodeURIComponent(revision)}`;
    const response = await client.open({
      method: "GET",
      path: pathOfFile(revision) + query,
      signal,
    });
    const version = /-(\d+)"$/.exec(response.headers.etag ?? "")?.[1];
    const totalBytes = Number(response.headers["content-length"]);
    if (version === undefined || !Number.isSafeInteger(totalBytes))
      throw answerInvalid(client.name, "it is no file of a version");
    let bytes = 0;
    for await (const piece of client.pieces(response)) {
      const block = piece as Uint8Array;
      await file.write(bytes, block);
      bytes += block.length;
      onProgress?.({ bytes, totalBytes });
    }
    const pageCount = bytes / pageSize;
    return { version: Number(version), pageCount, pageSize, bytes };
  });
}

function pathOfFile(revision: string): string {
  const { database, branch } = parseRevision(revision);
  const names = [database, branch ?? MAIN_BRANCH].map(encodeURIComponent);
  return `/api/v1/databases/${names[0]}/branches/${names[1]}/file`;
}
