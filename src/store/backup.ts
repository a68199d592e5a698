/** `connection.backup(path)` as better-sqlite3 has it: to a plain SQLite file, which is replaced as a whole. */
import { basename, dirname } from "node:path";
import type { BackupOptions, BackupProgress } from "../sqlite/backup.ts";
import type { Connection } from "../sqlite/connection.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { writeFileAtomicSync } from "../storage/whole-file.ts";
import { exportSnapshot } from "./export-file.ts";
import type { Session } from "./session.ts";

/** The revision of a session, as it is now; changes of a transaction that is still open are not in it. */
export async function backupRevision(
  connection: Connection,
  session: Session,
  destination: string,
  options?: BackupOptions | null,
): Promise<BackupProgress> {
  const path = checkBackup(connection, destination, options);
  const { snapshot } = session;
  const { pageSize } = snapshot.view.context;
  await exportSnapshot(snapshot, path, {
    overwrite: true,
    onProgress: ({ bytes, totalBytes }) => {
      const totalPages = totalBytes / pageSize;
      options?.progress?.({ totalPages, remainingPages: totalPages - bytes / pageSize });
    },
  });
  return { totalPages: snapshot.pageCount, remainingPages: 0 };
}

/** A database in memory. */
export async function backupMemory(
  connection: Connection,
  destination: string,
  options?: BackupOptions | null,
): Promise<BackupProgress> {
  const path = checkBackup(connection, destination, options);
  await Promise.resolve();
  const bytes = connection.serialize();
  const totalPages = Number(connection.pragma("page_count", { simple: true }));
  writeFileAtomicSync(openNodeStorage(dirname(path)), basename(path), bytes);
  options?.progress?.({ totalPages, remainingPages: 0 });
  return { totalPages, remainingPages: 0 };
}

/** Returns the path. */
function checkBackup(
  connection: Connection,
  destination: string,
  options?: BackupOptions | null,
): string {
  if (typeof destination !== "string")
    throw new TypeError("Expected first argument to be a string");
  if (options !== undefined && typeof options !== "object")
    throw new TypeError("Expected second argument to be an options object");
  const path = destination.trim();
  if (path === "") throw new TypeError("Backup filename cannot be an empty string");
  if (path === ":memory:") throw new TypeError('Invalid backup filename ":memory:"');
  if ((options?.attached ?? "main") !== "main")
    throw new TypeError(
      'Expected the "attached" option to be "main": back up the other revision by itself',
    );
  if (!connection.open) throw new TypeError("The database connection is not open");
  return path;
}
