/** What every command gets: the streams, the options that all commands share, and the store that they name. */
import type { Store } from "../store/store.ts";
import type { ThreadedStore } from "../threads/threaded-store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { CommandError, ExitCode, UsageError } from "./errors.ts";
import { type Terminal, TextOutput } from "./terminal.ts";

export type OutputFormat = "table" | "json" | "csv";

export interface GlobalOptions {
  readonly store?: string;
  readonly output: OutputFormat;
  readonly keyFile?: string;
  readonly takeOver?: true;
  readonly directory?: string;
  readonly durability?: NonNullable<StoreOptions["durability"]>;
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
    if (path === undefined || path === "") return DEFAULT_STORE;
    // Nobody means a directory of that name, and making a store would make it.
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path) && !isObjectStorageUrl(path))
      throw new UsageError(
        `Cannot open store "${path}": it is neither a directory nor "s3://bucket/prefix" nor "file:///path"`,
      );
    return path;
  }

  /** The store of a file with settings: for when the command line and the environment name none. */
  useStore(path: string): void {
    if (this.isStoreNamed) return;
    this.#options = { ...this.#options, store: path };
  }

  /** By the command line or the environment. */
  get isStoreNamed(): boolean {
    const path = this.#options.store ?? this.terminal.env["BOUGH_STORE"];
    return path !== undefined && path !== "";
  }

  /** Whether the store is named by the URL of its place in object storage. */
  get isRemote(): boolean {
    return isObjectStorageUrl(this.storePath);
  }

  /** The directory of the store. Throws UsageError for the URL of one in object storage. */
  directoryFor(what: string): string {
    if (!this.isRemote) return this.storePath;
    throw new UsageError(
      `Cannot ${what} store "${this.storePath}": it is in object storage; give the directory of a store, "bough restore-store" makes one`,
    );
  }

  /** Opens the store, and closes it when `body` has ended, however it ended. */
  async withStore<T>(body: (store: Store) => T | Promise<T>, options: OpenWith = {}): Promise<T> {
    const { openStore } = await import("../store/store.ts");
    const store = openStore(this.storePath, {
      create: false,
      ...options,
      ...this.#whereOptions(),
      ...this.keyOptions(),
    });
    let result: T;
    try {
      if (this.#options.durability === "remote") requireUploaded(store);
      result = await body(store);
    } catch (error) {
      // The first error is the cause; a failed close would only repeat it.
      try {
        store.close();
      } catch {}
      if (!isCodeOf(error, store.uploadFailure)) await this.#reportUpload(store);
      throw this.#withTakeOver(error, store);
    }
    store.close();
    await this.#reportUpload(store, this.#options.durability === "remote");
    return result;
  }

  /** As `withStore`, its databases spread over threads. */
  async withThreadedStore(
    body: (store: ThreadedStore) => Promise<void>,
    options: OpenWith & { readonly threads: number },
  ): Promise<void> {
    if (this.isRemote)
      throw new UsageError(
        `Cannot use threads with store "${this.storePath}": it is in object storage`,
      );
    const { openStoreAsync } = await import("../threads/open-store.ts");
    await using store = await openStoreAsync(this.storePath, {
      create: false,
      ...options,
      ...this.#whereOptions(),
      ...this.keyOptions(),
    });
    await body(store);
  }

  #whereOptions(): Pick<StoreOptions, "mode" | "directory" | "durability"> {
    const { takeOver, directory, durability } = this.#options;
    if (!this.isRemote && (takeOver === true || directory !== undefined)) {
      const option = takeOver === true ? "--take-over" : "--directory";
      throw new UsageError(
        `Cannot use ${option} with store "${this.storePath}": it is for a store in object storage, such as s3://bucket/prefix`,
      );
    }
    return {
      ...(this.isRemote ? { mode: takeOver === true ? "write" : "follow" } : {}),
      ...(directory === undefined ? {} : { directory }),
      ...(durability === undefined ? {} : { durability }),
    };
  }

  /** What a closed store has not brought up: a warning, since it is durable here; an error if object storage was to have it. */
  async #reportUpload(store: Store, isFailure = false): Promise<void> {
    const { uploadFailure } = store;
    if (uploadFailure === null) return;
    const { code } = uploadFailure;
    const message = `Store "${store.path}" is not uploaded yet: ${uploadFailure.message}`;
    if (isFailure) throw new CommandError(code, message, { cause: uploadFailure });
    await this.warn(uploadFailure, message);
  }

  /** A line on the error output about what does not make the command fail. */
  async warn({ code }: { readonly code: string }, message: string): Promise<void> {
    const text = JSON.stringify({ warning: { code, message } });
    await this.errors.write(this.format === "json" ? `${text}\n` : `bough: ${message}\n`);
  }

  /** Whoever writes to a store that is followed learns how. */
  #withTakeOver(error: unknown, store: Store): unknown {
    if (store.followerStatus === null || !(error instanceof Error) || !("code" in error))
      return error;
    if (error.code !== "READ_ONLY" && error.code !== "SQLITE_READONLY") return error;
    return new CommandError(
      error.code,
      `${error.message}; with --take-over this machine becomes the writer, and the one there now stops`,
      { cause: error },
    );
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
    const { store, keyFile, takeOver, directory } = this.#options;
    const options = [
      ...(store === undefined ? [] : ["--store", store]),
      ...(takeOver === undefined ? [] : ["--take-over"]),
      ...(directory === undefined ? [] : ["--directory", directory]),
      ...(keyFile === undefined ? [] : ["--key-file", keyFile]),
    ];
    return ["bough", ...words, ...options].map(shellWord).join(" ");
  }
}

type OpenWith = Pick<
  StoreOptions,
  "create" | "backend" | "compression" | "remote" | "partitions" | "connectionBytesMax"
>;

/** Throws UsageError when durability "remote" would wait for nothing. */
function isObjectStorageUrl(path: string): boolean {
  return /^(?:s3|file):\/\//.test(path);
}

function requireUploaded(store: Store): void {
  if (store.uploadStatus !== null) return;
  throw new UsageError(
    `Cannot use --durability remote with store "${store.path}": it is not uploaded; see "bough remote set"`,
  );
}

/** Whether both failed in the same way: once is enough to say. */
function isCodeOf(error: unknown, failure: { readonly code: string } | null): boolean {
  return error instanceof Error && "code" in error && error.code === failure?.code;
}

function shellWord(word: string): string {
  return /^[A-Za-z0-9_./:=@,+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
