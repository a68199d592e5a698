/**
 * A database as SQL text that stock sqlite3 loads into an equal database.
 *
 * D1. Every value comes back the same: integers and reals as literals with all digits, blobs in hexadecimal, text that a
 *     script cannot hold as a literal (NUL, CR, bytes that are no UTF-8) as CAST(x'...' AS TEXT).
 * D2. Tables come first, then what reacts to rows (indexes, triggers, views). Virtual tables are entered into the schema
 *     table as they are, their shadow tables dumped like others.
 * D3. All statements are one transaction.
 */
import type { Connection } from "../sqlite/connection.ts";
import { plainText, type SqlValue } from "./sql-value.ts";

interface SchemaRow {
  readonly type: string;
  readonly name: string;
  readonly tbl_name: string;
  readonly sql: string | null;
}

/** Text, line by line; of one table with its indexes and triggers, or of everything. */
export function* dumpLines(connection: Connection, table: string | null): Generator<string> {
  const objects = readSchema(connection, table);
  yield "PRAGMA foreign_keys=OFF;";
  yield "BEGIN TRANSACTION;";
  const userVersion = Number(connection.pragma("user_version", { simple: true }));
  if (table === null && userVersion !== 0) yield `PRAGMA user_version=${userVersion};`;
  let isSchemaWritable = false;
  for (const object of objects) {
    if (object.type !== "table") continue;
    if (object.name === "sqlite_sequence") yield "DELETE FROM sqlite_sequence;";
    else if (/^sqlite_stat[0-9]$/.test(object.name)) yield "ANALYZE sqlite_schema;";
    else if (object.name.startsWith("sqlite_")) continue;
    else if (isVirtual(object)) {
      if (!isSchemaWritable) yield "PRAGMA writable_schema=ON;";
      isSchemaWritable = true;
      const values = ["table", object.name, object.name].map(textLiteral).join(",");
      yield `INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES(${values},0,${textLiteral(object.sql ?? "")});`;
      continue;
    } else
      yield `${(object.sql ?? "").replace(/^CREATE TABLE (?=['"])/i, "CREATE TABLE IF NOT EXISTS ")};`;
    yield* dumpRows(connection, object.name);
  }
  for (const { type, sql } of objects) if (type !== "table" && sql !== null) yield `${sql};`;
  yield "COMMIT;";
  // RESET also makes the connection read the schema again, with the virtual tables.
  if (isSchemaWritable) yield "PRAGMA writable_schema=RESET;";
}

function readSchema(connection: Connection, table: string | null): SchemaRow[] {
  const statement = connection.prepare(
    `SELECT type, name, tbl_name, sql FROM sqlite_schema
     WHERE @table IS NULL OR tbl_name = @table COLLATE NOCASE
     ORDER BY name = 'sqlite_sequence', name LIKE 'sqlite_stat_', rowid`,
  );
  return statement.all({ table }) as SchemaRow[];
}

function isVirtual({ sql }: SchemaRow): boolean {
  return /^CREATE VIRTUAL TABLE/i.test(sql ?? "");
}

function* dumpRows(connection: Connection, table: string): Generator<string> {
  const info = connection
    .prepare("SELECT name, hidden FROM pragma_table_xinfo(?)")
    .raw()
    .all(table) as [string, number][];
  const stored = info.filter(([, hidden]) => hidden === 0).map(([name]) => quoteName(name));
  const target =
    stored.length === info.length ? quoteName(table) : `${quoteName(table)}(${stored.join(",")})`;
  // Text as bytes: what is no UTF-8 would not survive as a JavaScript string.
  const columns = stored.flatMap((name) => [
    `typeof(${name}) = 'text'`,
    `iif(typeof(${name}) = 'text', CAST(${name} AS BLOB), ${name})`,
  ]);
  if (columns.length === 0) return;
  const rows = connection
    .prepare(`SELECT ${columns.join(", ")} FROM ${quoteName(table)}`)
    .raw()
    .safeIntegers();
  for (const row of rows.iterate()) {
    const values = row as SqlValue[];
    const literals: string[] = [];
    for (let index = 0; index < values.length; index += 2)
      literals.push(literal(values[index + 1] ?? null, values[index] === 1n));
    yield `INSERT INTO ${target} VALUES(${literals.join(",")});`;
  }
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
