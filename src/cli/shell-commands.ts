/** The shell's commands that begin with ".". */
import { nearestNames } from "../branch/nearest-names.ts";
import type { OutputFormat } from "./command-context.ts";
import { printDump } from "./dump.ts";
import { CommandError } from "./errors.ts";
import { parseCount } from "./numbers.ts";
import { queryTexts } from "./query.ts";
import { OutputClosed } from "./run-sql.ts";
import type { ShellSession } from "./shell-session.ts";
import { visibleText } from "./sql-value.ts";
import { tableOf } from "./table.ts";
import { showTime } from "./time.ts";
import { readUserFile } from "./user-files.ts";

interface ShellCommand {
  readonly parameters: string;
  readonly description: string;
  readonly required?: number;
  run(session: ShellSession, parameters: readonly string[]): void | Promise<void>;
}

const LOG_LIMIT = 20;

const COMMANDS: ReadonlyMap<string, ShellCommand> = new Map<string, ShellCommand>([
  [
    ".branch",
    { parameters: "[NAME]", description: "list branches, or make one from here", run: branch },
  ],
  [".dump", { parameters: "[TABLE]", description: "print the database as SQL", run: dump }],
  [".help", { parameters: "", description: "print this list", run: help }],
  [".log", { parameters: "[N]", description: `list the newest commits (${LOG_LIMIT})`, run: log }],
  [
    ".mode",
    { parameters: "table|json|csv", description: "how rows are printed", required: 1, run: mode },
  ],
  [
    ".quit",
    {
      parameters: "",
      description: "leave; so do .exit and Ctrl-D",
      run: (session) => {
        session.isDone = true;
      },
    },
  ],
  [".read", { parameters: "FILE", description: "run the lines of a file", required: 1, run: read }],
  [".schema", { parameters: "[TABLE]", description: "print CREATE statements", run: schema }],
  [".tables", { parameters: "", description: "list tables and views", run: tables }],
  [
    ".use",
    {
      parameters: "REVISION",
      description: 'go to another revision: "shop/dev", "shop@120", "@-5m", "@120"',
      required: 1,
      run: use,
    },
  ],
]);

/** Throws CommandError for what is no command. */
export async function runShellCommand(session: ShellSession, line: string): Promise<void> {
  const [name = "", ...parameters] = splitWords(line);
  const command = COMMANDS.get(name === ".exit" ? ".quit" : name);
  if (command === undefined) {
    const [near] = nearestNames(name, COMMANDS.keys(), 1);
    throw new CommandError(
      "USAGE",
      `Cannot run "${name}": there is no such command; ${near === undefined ? 'see ".help"' : `did you mean "${near}"?`}`,
    );
  }
  const allowed = command.parameters === "" ? 0 : 1;
  if (parameters.length > allowed || parameters.length < (command.required ?? 0))
    throw new CommandError(
      "USAGE",
      `Cannot run "${line}": write ${name} ${command.parameters}`.trim(),
    );
  await command.run(session, parameters);
}

/** Words between white space; quotes hold a word together. */
function splitWords(line: string): string[] {
  const words = line.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
  return words.map((word) => (/^(".*"|'.*')$/.test(word) ? word.slice(1, -1) : word));
}

async function help(session: ShellSession): Promise<void> {
  for (const [name, { parameters, description }] of COMMANDS)
    await session.context.printLine(`${`${name} ${parameters}`.padEnd(22)} ${description}`);
  await session.context.printLine(
    `${"SQL;".padEnd(22)} run a statement; it can go over several lines`,
  );
}

async function tables({ connection, context }: ShellSession): Promise<void> {
  const names = await queryTexts(
    connection,
    "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
  );
  for (const name of names) await context.printLine(visibleText(name));
}

async function schema(
  { connection, context }: ShellSession,
  [table]: readonly string[],
): Promise<void> {
  const texts = await queryTexts(
    connection,
    "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (?1 IS NULL OR tbl_name = ?1 COLLATE NOCASE) ORDER BY rowid",
    [table ?? null],
  );
  if (table !== undefined && texts.length === 0) throw noTable("print the schema", table);
  for (const text of texts) await context.printLine(`${text};`);
}

async function branch(session: ShellSession, [name]: readonly string[]): Promise<void> {
  const { store, context } = session;
  const here = await session.place();
  if (name !== undefined) {
    if (await session.connection.inTransaction())
      throw new CommandError(
        "TRANSACTION_OPEN",
        `Cannot make branch "${name}": a transaction is open; COMMIT or ROLLBACK first`,
      );
    const from =
      here.version === 0
        ? `${here.database}/${here.branch}`
        : `${here.database}/${here.branch}@${here.version}`;
    const created = await store.createBranch(here.database, name, { from });
    await context.printLine(
      `Created branch "${created.revision}"; go there with .use ${created.revision}`,
    );
    return;
  }
  const branches = await store.branches(here.database);
  const rows = branches.map(({ name: branchName, head, parent }) => [
    branchName === here.branch ? "*" : "",
    branchName,
    String(head.version),
    showTime(head.timestamp),
    parent ?? "",
  ]);
  const head = ["", "branch", "version", "committed", "parent"];
  await context.printLine(tableOf(head, rows, context.output.columns));
}

async function use(session: ShellSession, [revision = ""]: readonly string[]): Promise<void> {
  if (!revision.startsWith("@")) return await session.use(revision);
  const { database, branch: branchName } = await session.place();
  await session.use(`${database}/${branchName}${revision}`);
}

async function log(session: ShellSession, [limit]: readonly string[]): Promise<void> {
  const { store, context } = session;
  const { database, branch: branchName, version } = await session.place();
  const commits = await store.branchLog(database, branchName, {
    limit: limit === undefined ? LOG_LIMIT : parseCount("N", limit),
    before: version,
  });
  const rows = commits.map((commit) => [
    String(commit.version),
    showTime(commit.timestamp),
    commit.branch,
    String(commit.changedPages),
  ]);
  const head = ["version", "time", "branch", "changed"];
  await context.printLine(tableOf(head, rows, context.output.columns));
}

async function dump(session: ShellSession, [table]: readonly string[]): Promise<void> {
  const { store, context } = session;
  const { database, branch: branchName, version } = await session.place();
  // What is not committed is seen by this connection only; else others may commit between two queries.
  const isHere = version === 0 || (await session.connection.inTransaction());
  const connection = isHere
    ? session.connection
    : await store.connect(`${database}/${branchName}@${version}`);
  try {
    if (table !== undefined) {
      const sql = "SELECT name FROM sqlite_schema WHERE tbl_name = ? COLLATE NOCASE LIMIT 1";
      if ((await queryTexts(connection, sql, [table])).length === 0) throw noTable("dump", table);
    }
    await printDump(connection, table ?? null, context.output);
  } catch (error) {
    if (!(error instanceof OutputClosed)) throw error;
  } finally {
    if (!isHere) await connection.close();
  }
}

async function read(session: ShellSession, [path = ""]: readonly string[]): Promise<void> {
  await session.read(path, Buffer.from(readUserFile(path)).toString("utf8"));
}

function mode(session: ShellSession, [format = ""]: readonly string[]): void {
  if (!isFormat(format))
    throw new CommandError("USAGE", `Cannot set mode "${format}": it is one of table, json, csv`);
  session.format = format;
}

function isFormat(text: string): text is OutputFormat {
  return text === "table" || text === "json" || text === "csv";
}

function noTable(action: string, table: string): CommandError {
  return new CommandError("SQLITE_ERROR", `Cannot ${action}: there is no table "${table}"`);
}
