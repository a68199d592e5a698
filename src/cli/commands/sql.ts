import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";

export function addSqlCommand(program: Command, context: CommandContext): void {
  program
    .command("sql <revision> [sql]")
    .description("run SQL statements, given as argument or on stdin, and print their rows")
    .addHelpText(
      "after",
      `
Statements run one by one; the first that fails ends the run, what came before it stays.
Put BEGIN; and COMMIT; around them for all or nothing. With --output json each statement that
returns rows prints one line, an array of objects; blobs are base64 there.
${examples([
  ['bough sql shop "SELECT * FROM orders LIMIT 10"'],
  ['bough sql shop@-1h --output csv "SELECT * FROM orders" > orders.csv'],
  ["bough sql shop/dev < migration.sql"],
  [
    `bough sql shop "ATTACH 'shop@120' AS old; SELECT * FROM orders EXCEPT SELECT * FROM old.orders"`,
  ],
])}`,
    )
    .action((revision: string, sql: string | undefined) => runSql(context, revision, sql));
}

async function runSql(
  context: CommandContext,
  revision: string,
  sql: string | undefined,
): Promise<void> {
  const { stdin } = context.terminal;
  if (sql === undefined && stdin.isTTY === true)
    throw new UsageError(
      'Cannot run SQL: none is given; pass it as an argument or on stdin, or use "bough shell"',
    );
  const { requireNoTransaction, runStatement } = await import("../run-sql.ts");
  const { SqlSplitter } = await import("../sql-statements.ts");
  const { decodeText } = await import("../input-text.ts");
  await context.withStore(async (store) => {
    const connection = await store.connect(revision);
    const { output, format } = context;
    const splitter = new SqlSplitter();
    try {
      for await (const piece of sql === undefined ? decodeText(stdin) : [sql]) {
        for (const statement of splitter.push(piece))
          await runStatement({ connection, output, format }, statement);
        // Whoever writes the statements may wait for the rows.
        await output.flush();
      }
      const last = splitter.finish();
      if (last !== null) await runStatement({ connection, output, format }, last);
      await requireNoTransaction(connection);
    } finally {
      await connection.close();
    }
  });
}
