/**
 * A database as SQL text that stock sqlite3 loads into an equal database.
 *
 * D1. Every value comes back the same: integers and reals as literals with all digits, blobs in hexadecimal, text that a
 *     script cannot hold as a literal (NUL, CR, bytes that are no UTF-8) as CAST(x'...' AS TEXT).
 * D2. Tables come first, then what reacts to rows (indexes, triggers, views). Virtual tables are entered into the schema
 *     table as they are, their shadow tables dumped like others.
 * D3. All statements are one transaction.
 */
import type { RowSink } from "../sqlite/async-executor.ts";
import type { SqlConnection } from "./command-store.ts";
import { queryRows, queryTexts } from "./query.ts";
import { OutputClosed } from "./run-sql.ts";
import { plainText, type SqlValue } from "./sql-value.ts";
import type { TextOutput } from "./terminal.ts";

interface SchemaRow {
  readonly type: string;
  readonly name: string;
  readonly sql: string | null;
}

/** Of one table with its indexes and triggers, or of everything. The connection must read one snapshot until the end. */
export async function printDump(
  connection: SqlConnection,
  table: string | null,
  output: TextOutput,
): Promise<void> {
  const print = (line: string): Promise<void> => output.write(`${line}\n`);
  const objects = await readSchema(connection, table);
  await print("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;");
  const [userVersion = "0"] = await queryTexts(connection, "PRAGMA user_version");
  if (table === null && userVersion !== "0") await print(`PRAGMA user_version=${userVersion};`);
  let isSchemaWritable = false;
  for (const object of objects) {
    if (object.type !== "table") continue;
    if (object.name === "sqlite_sequence") await print("DELETE FROM sqlite_sequence;");
    else if (/^sqlite_stat[0-9]$/.test(object.name)) await print("ANALYZE sqlite_schema;");
    else if (object.name.startsWith("sqlite_")) continue;
    else if (isVirtual(object)) {
      if (!isSchemaWritable) await print("PRAGMA writable_schema=ON;");
      isSchemaWritable = true;
      const values = ["table", object.name, object.name].map(textLiteral).join(",");
      await print(
        `INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES(${values},0,${textLiteral(object.sql ?? "")});`,
      );
      continue;
    } else
      await print(
        `${(object.sql ?? "").replace(/^CREATE TABLE (?=['"])/i, "CREATE TABLE IF NOT EXISTS ")};`,
      );
    await dumpRows(connection, object.name, output);
  }
  for (const { type, sql } of objects) if (type !== "table" && sql !== null) await print(`${sql};`);
  await print("COMMIT;");
  // RESET also makes the connection read the schema again, with the virtual tables.
  if (isSchemaWritable) await print("PRAGMA writable_schema=RESET;");
}

async function readSchema(connection: SqlConnection, table: string | null): Promise<SchemaRow[]> {
  const rows = await queryRows(
    connection,
    `SELECT type, name, sql FROM sqlite_schema
     WHERE ?1 IS NULL OR tbl_name = ?1 COLLATE NOCASE
     ORDER BY name = 'sqlite_sequence', name LIKE 'sqlite_stat_', rowid`,
    [table],
  );
  return rows.map(([type, name, sql]) => ({
    type: String(type),
    name: String(name),
    sql: typeof sql === "string" ? sql : null,
  }));
}

function isVirtual({ sql }: SchemaRow): boolean {
  return /^CREATE VIRTUAL TABLE/i.test(sql ?? "");
}

async function dumpRows(
  connection: SqlConnection,
  table: string,
  output: TextOutput,
): Promise<void> {
  const info = await queryRows(connection, "SELECT name, hidden FROM pragma_table_xinfo(?)", [
    table,
  ]);
  const stored = info
    .filter(([, hidden]) => hidden === 0n)
    .map(([name]) => quoteName(String(name)));
  const target =
    stored.length === info.length ? quoteName(table) : `${quoteName(table)}(${stored.join(",")})`;
  // Text as bytes: what is no UTF-8 would not survive as a JavaScript string.
  const columns = stored.flatMap((name) => [
    `typeof(${name}) = 'text'`,
    `iif(typeof(${name}) = 'text', CAST(${name} AS BLOB), ${name})`,
  ]);
  if (columns.length === 0) return;
  const sql = `SELECT ${columns.join(", ")} FROM ${quoteName(table)}`;
  const sink: RowSink = {
    wantsRows: true,
    begin: () => {},
    row: (values) => {
      if (output.closed) throw new OutputClosed();
      const literals: string[] = [];
      for (let index = 0; index < values.length; index += 2)
        literals.push(literal(values[index + 1] ?? null, values[index] === 1n));
      return output.append(`INSERT INTO ${target} VALUES(${literals.join(",")});\n`);
    },
    drained: () => output.flush(),
  };
  await connection.execute({ sql, values: [], namedValues: [] }, sink);
}

function literal(value: SqlValue, isText: boolean): string {
  if (value === null) return "NULL";
  if (typeof value === "string") return textLiteral(value);
  if (isText && value instanceof Uint8Array) return textLiteralOfBytes(Buffer.from(value));
  return plainText(value);
}

function textLiteralOfBytes(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  const isExact = Buffer.from(text, "utf8").equals(bytes) && !needsBytes(text);
  return isExact ? textLiteral(text) : `CAST(x'${bytes.toString("hex")}' AS TEXT)`;
}

function textLiteral(text: string): string {
  return needsBytes(text)
    ? `CAST(x'${Buffer.from(text, "utf8").toString("hex")}' AS TEXT)`
    : `'${text.replaceAll("'", "''")}'`;
}

/** sqlite3 ends text at NUL and drops a CR before a line end when it reads a script. */
function needsBytes(text: string): boolean {
  return text.includes("\0") || text.includes("\r");
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
