/** The shell's commands that begin with ".". */
import { nearestNames } from "../branch/nearest-names.ts";
import type { OutputFormat } from "./command-context.ts";
import { dumpLines } from "./dump.ts";
import { CommandError } from "./errors.ts";
import { parseCount } from "./numbers.ts";
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
  const names = connection
    .prepare(
      "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )
    .pluck()
    .all() as string[];
  for (const name of names) await context.printLine(visibleText(name));
}

async function schema(
  { connection, context }: ShellSession,
  [table]: readonly string[],
): Promise<void> {
  const texts = connection
    .prepare(
      "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (@table IS NULL OR tbl_name = @table COLLATE NOCASE) ORDER BY rowid",
    )
    .pluck()
    .all({ table: table ?? null }) as string[];
  if (table !== undefined && texts.length === 0) throw noTable("print the schema", table);
  for (const text of texts) await context.printLine(`${text};`);
}

async function branch(session: ShellSession, [name]: readonly string[]): Promise<void> {
  const { store, context } = session;
  const here = session.place();
  const database = store.database(here.database);
  if (name !== undefined) {
    if (session.connection.inTransaction)
      throw new CommandError(
        "TRANSACTION_OPEN",
        `Cannot make branch "${name}": a transaction is open; COMMIT or ROLLBACK first`,
      );
    const from =
      here.version === 0
        ? `${here.database}/${here.branch}`
        : `${here.database}/${here.branch}@${here.version}`;
    const created = database.createBranch(name, { from });
    await context.printLine(
      `Created branch "${created.revision}"; go there with .use ${created.revision}`,
    );
    return;
  }
  const rows = database
    .branches()
    .map(({ name: branchName, head, parent }) => [
      branchName === here.branch ? "*" : "",
      branchName,
      String(head.version),
      head.version === 0 ? "" : showTime(head.timestamp),
      parent?.name ?? "",
    ]);
  const head = ["", "branch", "version", "committed", "parent"];
  await context.printLine(tableOf(head, rows, context.output.columns));
}

function use(session: ShellSession, [revision = ""]: readonly string[]): void {
  if (!revision.startsWith("@")) {
    session.use(revision);
    return;
  }
  const { database, branch: branchName } = session.place();
  session.use(`${database}/${branchName}${revision}`);
}

async function log(session: ShellSession, [limit]: readonly string[]): Promise<void> {
  const { store, context } = session;
  const { database, branch: branchName, version } = session.place();
  const commits = store
    .database(database)
    .branch(branchName)
    .log({ limit: limit === undefined ? LOG_LIMIT : parseCount("N", limit), before: version });
  const rows = commits.map((commit) => [
    String(commit.version),
    showTime(commit.timestamp),
    commit.branch,
    String(commit.changedPages),
  ]);
  const head = ["version", "time", "branch", "changed"];
  await context.printLine(tableOf(head, rows, context.output.columns));
}

async function dump(
  { connection, context }: ShellSession,
  [table]: readonly string[],
): Promise<void> {
  if (table !== undefined) {
    const found = connection
      .prepare("SELECT count(*) FROM sqlite_schema WHERE tbl_name = ? COLLATE NOCASE")
      .pluck()
      .get(table);
    if (found === 0) throw noTable("dump", table);
  }
  for (const line of dumpLines(connection, table ?? null)) {
    if (context.output.closed) return;
    await context.printLine(line);
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
