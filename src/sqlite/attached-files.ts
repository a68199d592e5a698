/** Rollback journals stay in SQLite's memory: see B2 in vfs-bridge.ts. */
import type { ConnectionState } from "./connection-state.ts";
import { runScript } from "./script.ts";

/** Run after the connection opened a database file: at open, and after a statement that may have been ATTACH. */
export function settleAttachedFiles(state: ConnectionState): void {
  state.fileOpened = false;
  const schemas: string[] = [];
  state.internalPragma = true;
  try {
    runScript(state, "PRAGMA database_list", {
      onRow: ([, schema, file]) => {
        if (schema !== "temp" && file !== "") schemas.push(String(schema));
      },
    });
    for (const schema of schemas) {
      runScript(state, journalInMemory(schema));
    }
  } finally {
    state.internalPragma = false;
  }
}

export function journalInMemory(schema: string): string {
  return `PRAGMA "${schema.replaceAll('"', '""')}".journal_mode=MEMORY`;
}
