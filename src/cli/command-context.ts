/** What every command gets: the streams, the options that all commands share, and the store that they name. */
import { invariant, StoreError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { ThreadedStore } from "../threads/threaded-store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import type { CommandStore } from "./command-store.ts";
import { CommandError, ExitCode, UsageError } from "./errors.ts";
import { type Terminal, TextOutput } from "./terminal.ts";

export type OutputFormat = "table" | "json" | "csv";

export interface GlobalOptions {
  readonly store?: string;
  readonly url?: string;
  readonly token?: string;
  readonly tokenFile?: string;
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

  /** The server that the command is to use; null: the store is a directory, or in object storage. */
  get url(): string | null {
    const { store, url } = this.#options;
    if (url !== undefined && store !== undefined)
      throw new UsageError("Cannot use --store with --url: the server has the store");
    if (url !== undefined || store !== undefined) return url ?? null;
    const named = this.#variable("BOUGH_URL");
    if (named !== null && this.#variable("BOUGH_STORE") !== null)
      throw new UsageError(
        "Cannot tell which store is meant: BOUGH_URL and BOUGH_STORE are both set; say it with --url or --store",
      );
    return named;
  }

  /** The directory or the URL, as people know the store. */
  get storeName(): string {
    return this.url ?? this.storePath;
  }

  get storePath(): string {
    const path = this.#options.store ?? this.#variable("BOUGH_STORE") ?? DEFAULT_STORE;
    // Nobody means a directory of that name, and making a store would make it.
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path) && !isObjectStorageUrl(path))
      throw new UsageError(
        /^https?:/i.test(path)
          ? `Cannot open store "${path}": that is a server; use --url ${path}`
          : `Cannot open store "${path}": it is neither a directory nor "s3://bucket/prefix" nor "file:///path"`,
      );
    return path;
  }

  /** Null when it is not set, or empty. */
  #variable(name: string): string | null {
    return this.terminal.env[name] || null;
  }

  /** The store of a file with settings: for when the command line and the environment name none. */
  useStore(path: string): void {
    if (this.isStoreNamed) return;
    this.#options = { ...this.#options, store: path };
  }

  /** By the command line or the environment. */
  get isStoreNamed(): boolean {
    return this.url !== null || (this.#options.store ?? this.#variable("BOUGH_STORE")) !== null;
  }

  /** Whether the store is named by the URL of its place in object storage. */
  get isRemote(): boolean {
    return this.url === null && isObjectStorageUrl(this.storePath);
  }

  /** Where the files of the store are, or will be; null: that is known when it is open. */
  async localDirectory(): Promise<string | null> {
    const where = this.#whereOptions();
    if (!this.isRemote) return this.storePath;
    const { remoteDirectory } = await import("../store/open-remote.ts");
    return remoteDirectory(this.storePath, where);
  }

  /** The directory of the store. Throws UsageError for the URL of one in object storage, or of a server. */
  directoryFor(what: string): string {
    this.requireHere(what);
    if (!this.isRemote) return this.storePath;
    throw new UsageError(
      `Cannot ${what} store "${this.storePath}": it is in object storage; give the directory of a store, "bough restore-store" makes one`,
    );
  }

  /** Throws UsageError when the store is named by the URL of a server. */
  requireHere(what: string): void {
    const { url } = this;
    if (url === null) return;
    throw new UsageError(
      `Cannot ${what} the store of server "${url}": that works on the store's directory; run it where the store is, without --url`,
    );
  }

  /**
   * The store, wherever it is, until `body` has ended. One that is in a directory is opened; when a server of this machine holds it, the
   * command goes through that.
   */
  async withStore<T>(
    body: (store: CommandStore) => T | Promise<T>,
    options: OpenWith = {},
  ): Promise<T> {
    if (this.url !== null) return await this.withServer(body, options);
    const { LocalCommandStore } = await import("./local-command-store.ts");
    let isOpen = false;
    try {
      return await this.withLocalStore(null, options, (store) => {
        isOpen = true;
        return body(new LocalCommandStore(store));
      });
    } catch (error) {
      if (isOpen) throw error;
      return await this.throughSocket(error, body, options);
    }
  }

  /** Of the URL. */
  async withServer<T>(
    body: (store: CommandStore) => T | Promise<T>,
    options: OpenWith = {},
  ): Promise<T> {
    const { url } = this;
    invariant(url !== null, "The command line names a server");
    const { keyFile, takeOver, directory, durability, token, tokenFile } = this.#options;
    const unused = Object.entries({ keyFile, takeOver, directory, durability, ...options }).find(
      ([name, value]) => value !== undefined && name !== "create",
    );
    if (unused !== undefined) throw notOfServer(unused[0]);
    const { openServedStore } = await import("./client/open-served-store.ts");
    const store = await openServedStore(url, {
      token: token ?? null,
      tokenFile: tokenFile ?? null,
      env: this.terminal.env,
    });
    try {
      return await body(store);
    } finally {
      store.close();
    }
  }

  /** The same through the server that has the store open, if `error` says so and one answers; else `error` is thrown. */
  async throughSocket<T>(
    error: unknown,
    body: (store: CommandStore) => T | Promise<T>,
    options: OpenWith = {},
  ): Promise<T> {
    if (!isLocked(error) || this.isRemote) throw error;
    // The server has its own durability.
    if (this.#options.durability === "remote")
      throw await this.#ofHolder("use --durability remote with", error);
    const { openSocketStore } = await import("./client/open-served-store.ts");
    const store = await openSocketStore(this.storePath);
    if (store === null) throw error;
    try {
      const unused = Object.keys(options).find((name) => name !== "create");
      if (unused !== undefined) throw notOfServer(unused);
      return await body(store);
    } finally {
      store.close();
    }
  }

  /** Opens the store here, and closes it when `body` has ended, however it ended. `what`: what a server cannot do; null: it can. */
  async withLocalStore<T>(
    what: string | null,
    options: OpenWith,
    body: (store: Store) => T | Promise<T>,
  ): Promise<T> {
    if (what !== null) this.requireHere(what);
    const { openStore } = await import("../store/store.ts");
    const open = (): Store =>
      openStore(this.storePath, {
        create: false,
        ...options,
        ...this.#whereOptions(),
        ...this.keyOptions(),
      });
    const store = what === null ? open() : await this.withDirectory(what, open);
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
    await using store = await this.withDirectory("serve", () =>
      openStoreAsync(this.storePath, {
        create: false,
        ...options,
        ...this.#whereOptions(),
        ...this.keyOptions(),
      }),
    );
    await body(store);
  }

  /** Runs what takes the directory for itself, and names the server that has it. `what`: how a message goes on after "Cannot". */
  async withDirectory<T>(what: string, body: () => T | Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      throw await this.#ofHolder(what, error);
    }
  }

  /** The same error, or what to do where a server has the store. */
  async #ofHolder(what: string, error: unknown): Promise<unknown> {
    if (!isLocked(error) || this.isRemote) return error;
    const { openSocketStore } = await import("./client/open-served-store.ts");
    // Whoever answers in another way than a server does is none.
    const store = await openSocketStore(this.storePath).catch(() => null);
    if (store === null) return error;
    store.close();
    const { holder } = error.details;
    const pid = typeof holder === "object" && holder !== null && "pid" in holder ? holder.pid : "?";
    return new CommandError(
      "STORE_LOCKED",
      `Cannot ${what} store "${this.storePath}": a server (process ${String(pid)}) holds it; stop that server first`,
      { cause: error },
    );
  }

  #whereOptions(): Pick<StoreOptions, "mode" | "directory" | "durability"> {
    const { takeOver, directory, durability, token, tokenFile } = this.#options;
    if (token !== undefined || tokenFile !== undefined)
      throw new UsageError(
        `Cannot use ${token === undefined ? "--token-file" : "--token"} with store "${this.storePath}": it is for a server, which --url names`,
      );
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
    const { store, url, tokenFile, keyFile, takeOver, directory } = this.#options;
    const options = [
      ...(url === undefined ? [] : ["--url", url]),
      ...(tokenFile === undefined ? [] : ["--token-file", tokenFile]),
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

function isObjectStorageUrl(path: string): boolean {
  return /^(?:s3|file):\/\//.test(path);
}

function notOfServer(option: string): UsageError {
  return new UsageError(
    `Cannot use --${option.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} with a server: it is for a store that the command opens itself`,
  );
}

/** Throws UsageError when durability "remote" would wait for nothing. */
function requireUploaded(store: Store): void {
  if (store.uploadStatus !== null) return;
  throw new UsageError(
    `Cannot use --durability remote with store "${store.path}": it is not uploaded; see "bough remote set"`,
  );
}

function isLocked(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === "STORE_LOCKED";
}

/** Whether both failed in the same way: once is enough to say. */
function isCodeOf(error: unknown, failure: { readonly code: string } | null): boolean {
  return error instanceof Error && "code" in error && error.code === failure?.code;
}

function shellWord(word: string): string {
  return /^[A-Za-z0-9_./:=@,+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
