/**
 * What SQLite has to be told of each database file that it has opened: rollback journals stay in its memory (B2 in vfs-bridge.ts),
 * and an empty database is made with the page size that its store has for it.
 */
import type { ConnectionState } from "./connection-state.ts";
import { pageSizeScript } from "./database-handle.ts";
import { runScript } from "./script.ts";

/** Run after the connection opened a database file: at open, and after a statement that may have been ATTACH. */
export function settleAttachedFiles(state: ConnectionState): void {
  state.fileOpened = false;
  const scripts: string[] = [];
  state.internalPragma = true;
  try {
    runScript(state, "PRAGMA database_list", {
      onRow: ([, schema, file]) => {
        const script = settingsOfFile(state, String(schema), String(file));
        if (script !== null) scripts.push(script);
      },
    });
    for (const script of scripts) runScript(state, script);
  } finally {
    state.internalPragma = false;
  }
}

/** Null: it is no file of ours. */
export function settingsOfFile(
  { pageSizes }: ConnectionState,
  schema: string,
  file: string,
): string | null {
  if (schema === "temp" || file === "") return null;
  const name = `"${schema.replaceAll('"', '""')}"`;
  const pageSize = pageSizes.get(file);
  // Without effect on a database that has pages. That of main is set when the connection is made.
  const sized = schema === "main" || pageSize === undefined ? "" : pageSizeScript(name, pageSize);
  return `${sized}PRAGMA ${name}.journal_mode=MEMORY`;
}
