/** What every command gets: the streams, the options that all commands share, and the store that they name. */
import type { Store } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { ExitCode } from "./errors.ts";
import { type Terminal, TextOutput } from "./terminal.ts";

export type OutputFormat = "table" | "json" | "csv";

export interface GlobalOptions {
  readonly store?: string;
  readonly output: OutputFormat;
  readonly keyFile?: string;
}

export const DEFAULT_STORE = "./bough";

/** A column of a list: its title and the text of a record in it. */
export type Column<T> = readonly [title: string, text: (record: T) => string];

export class CommandContext {
  readonly terminal: Terminal;
  readonly output: TextOutput;
  readonly errors: TextOutput;
  /** What the process ends with when no error was thrown. */
  exitCode: ExitCode = ExitCode.done;
  #options: GlobalOptions = { output: "table" };

  constructor(terminal: Terminal) {
    this.terminal = terminal;
    this.output = new TextOutput(terminal.stdout);
    this.errors = new TextOutput(terminal.stderr);
  }

  /** Called once the arguments are read. */
  configure(options: GlobalOptions): void {
    this.#options = options;
  }

  get format(): OutputFormat {
    return this.#options.output;
  }

  get storePath(): string {
    const { env } = this.terminal;
    const path = this.#options.store ?? env["BOUGH_STORE"];
    return path === undefined || path === "" ? DEFAULT_STORE : path;
  }

  /** Opens the store, and closes it when `body` has ended, however it ended. */
  async withStore<T>(
    body: (store: Store) => T | Promise<T>,
    options: Pick<StoreOptions, "create" | "backend" | "compression"> = {},
  ): Promise<T> {
    const { openStore } = await import("../store/store.ts");
    const store = openStore(this.storePath, {
      create: false,
      ...options,
      ...this.keyOptions(),
    });
    let result: T;
    try {
      result = await body(store);
    } catch (error) {
      // The first error is the cause; a failed close would only repeat it.
      try {
        store.close();
      } catch {}
      throw error;
    }
    store.close();
    return result;
  }

  /** What opens an encrypted store, as options of the library. */
  keyOptions(): { keyFile?: string; environment: NodeJS.ProcessEnv } {
    const { keyFile } = this.#options;
    const environment = this.terminal.env;
    return keyFile === undefined ? { environment } : { keyFile, environment };
  }

  /** A list: a table, or an array of the records in JSON. */
  async printList<T>(
    records: readonly T[],
    columns: readonly Column<T>[],
    options: { readonly whenEmpty: string },
  ): Promise<void> {
    if (this.format === "json") return this.printJson(records);
    if (records.length === 0) return this.printLine(options.whenEmpty);
    const { tableOf } = await import("./table.ts");
    const rows = records.map((record) => columns.map(([, text]) => text(record)));
    const head = columns.map(([title]) => title);
    await this.output.write(`${tableOf(head, rows, this.output.columns)}\n`);
  }

  /** What was done: a sentence, or a record in JSON. */
  async printDone(sentence: string, record: unknown): Promise<void> {
    if (this.format === "json") await this.printJson(record);
    else await this.printLine(sentence);
  }

  async printLine(line: string): Promise<void> {
    await this.output.write(`${line}\n`);
  }

  async printJson(record: unknown): Promise<void> {
    await this.output.write(`${JSON.stringify(record)}\n`);
  }

  /** A command line to show the user, with the options needed to reach the same store. */
  commandLine(...words: readonly string[]): string {
    const { store, keyFile } = this.#options;
    const options = [
      ...(store === undefined ? [] : ["--store", store]),
      ...(keyFile === undefined ? [] : ["--key-file", keyFile]),
    ];
    return ["bough", ...words, ...options].map(shellWord).join(" ");
  }
}

function shellWord(word: string): string {
  return /^[A-Za-z0-9_./:=@,+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
