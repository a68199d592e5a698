/** The rows of a query that are few. */
import type { ArgumentValue, RowSink } from "../sqlite/async-executor.ts";
import type { SqlConnection } from "./command-store.ts";
import type { SqlValue } from "./sql-value.ts";

export async function queryRows(
  connection: SqlConnection,
  sql: string,
  values: readonly ArgumentValue[] = [],
): Promise<SqlValue[][]> {
  const rows: SqlValue[][] = [];
  const sink: RowSink = {
    wantsRows: true,
    begin: () => {},
    row: (row) => {
      rows.push([...row]);
      return false;
    },
    drained: () => Promise.resolve(),
  };
  await connection.execute({ sql, values, namedValues: [] }, sink);
  return rows;
}

/** The first column, which is text. */
export async function queryTexts(
  connection: SqlConnection,
  sql: string,
  values: readonly ArgumentValue[] = [],
): Promise<string[]> {
  return (await queryRows(connection, sql, values)).map(([text]) => String(text));
}
