/** Runs the command line within the test's process, on a directory of its own, and collects what it prints. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";
import type { ExitCode } from "../cli/errors.ts";
import { run } from "../cli/run.ts";
import type { InputStream, OutputStream } from "../cli/terminal.ts";
import type { HttpServer } from "../server/http-server.ts";
import { type ServeOptions, serveStore } from "../server/serve.ts";
import type { ServerSettings } from "../server/setting-list.ts";
import { openStore } from "../store/store.ts";

export interface CommandResult {
  readonly exitCode: ExitCode;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Text on stdin; none: an empty pipe. */
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Keeps what is written to it. */
export class CollectingStream extends Writable implements OutputStream {
  readonly isTTY: boolean;
  readonly columns: number;
  text = "";

  constructor(options: { readonly isTTY?: boolean; readonly columns?: number } = {}) {
    super({ decodeStrings: false });
    this.isTTY = options.isTTY ?? false;
    this.columns = options.columns ?? 80;
  }

  override _write(chunk: string | Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** Where the store of commands is: a directory, a server's, or a directory that a server holds, which is reached by its socket. */
export const COMMAND_TARGETS = ["directory", "server", "socket"] as const;
export type CommandTarget = (typeof COMMAND_TARGETS)[number];

export class CommandDirectory implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "bough-cli-"));
  /** What names the store to commands. */
  env: Readonly<Record<string, string>> = { BOUGH_STORE: this.file("store") };
  #stop: (() => Promise<void>) | null = null;

  /** To be ended by `end`. With a server the store is there already. */
  static async on(target: CommandTarget): Promise<CommandDirectory> {
    const directory = new CommandDirectory();
    if (target === "directory") return directory;
    const server = await directory.serve();
    if (target === "server") directory.env = { BOUGH_URL: server.url };
    return directory;
  }

  /** Serves the store until `stopServing`. */
  async serve(
    settings: Partial<ServerSettings> = {},
    { path = this.file("store"), ...options }: ServeOptions & { readonly path?: string } = {},
  ): Promise<HttpServer> {
    const store = openStore(path);
    const server = await serveStore(store, { settings: { port: 0, ...settings }, ...options });
    this.#stop = async () => {
      await server.stop();
      await store.closeAsync();
    };
    return server;
  }

  async stopServing(): Promise<void> {
    await this.#stop?.();
    this.#stop = null;
  }

  /** Stops the server, too. */
  async end(): Promise<void> {
    await this.stopServing();
    this[Symbol.dispose]();
  }

  /** A path inside. */
  file(name: string): string {
    return join(this.path, name);
  }

  /** Runs "bough ...words" on the store "store" in the directory. */
  async bough(words: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const stdout = new CollectingStream();
    const stderr = new CollectingStream();
    const stdin: InputStream = Readable.from(options.stdin === undefined ? [] : [options.stdin]);
    const env = { ...this.env, ...options.env };
    const exitCode = await run(words, { stdin, stdout, stderr, env });
    return { exitCode, stdout: stdout.text, stderr: stderr.text };
  }

  /** A command that must succeed; what it printed. */
  async ok(words: readonly string[], options: CommandOptions = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.bough(words, options);
    if (exitCode !== 0 || stderr !== "")
      throw new Error(`bough ${words.join(" ")} ended with ${exitCode}: ${stderr}`);
    return stdout;
  }

  /** A command that must succeed, with --output json; what its lines say. */
  async json(words: readonly string[], options: CommandOptions = {}): Promise<unknown> {
    const text = await this.ok([...words, "--output", "json"], options);
    const lines = text.trimEnd().split("\n");
    return lines.length === 1 ? JSON.parse(lines[0] ?? "") : lines.map((line) => JSON.parse(line));
  }

  /** A command that must fail in the given way; its message, without "bough: ". */
  async fails(
    exitCode: ExitCode,
    words: readonly string[],
    options: CommandOptions = {},
  ): Promise<string> {
    const result = await this.bough(words, options);
    if (result.exitCode !== exitCode)
      throw new Error(
        `bough ${words.join(" ")} ended with ${result.exitCode}, not ${exitCode}: ${result.stderr}`,
      );
    return result.stderr.replace(/^bough: /, "").trimEnd();
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A keyboard and a screen. */
export class FakeTerminal {
  readonly stdin: PassThrough & InputStream = Object.assign(new PassThrough(), { isTTY: true });
  readonly stdout: CollectingStream;
  readonly stderr: CollectingStream;

  constructor(columns = 80) {
    this.stdout = new CollectingStream({ isTTY: true, columns });
    this.stderr = new CollectingStream({ isTTY: true, columns });
  }
}
