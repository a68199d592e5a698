/** Where the shell's lines come from: a person at a terminal, with history and editing, or a pipe. */
import { createInterface, type Interface } from "node:readline";
import { homedir } from "node:os";
import { join } from "node:path";
import { ReadStream } from "node:tty";
import { StoreError } from "../errors.ts";
import { decodeText } from "./input-text.ts";
import type { Terminal } from "./terminal.ts";
import { readUserFile, writeUserFile } from "./user-files.ts";

/** Null at the end of the input; "cancelled" when the user pressed Ctrl-C. */
export type ShellLine = { readonly text: string } | "cancelled" | null;

export interface LineSource {
  next(prompt: () => Promise<string>): Promise<ShellLine>;
  close(): void;
}

const HISTORY_LINES = 2000;

export class TerminalLines implements LineSource {
  readonly #terminal: Terminal;
  readonly #interface: Interface;
  readonly #historyPath: string;
  readonly #arrived: ShellLine[] = [];
  #history: readonly string[];
  #wake: (() => void) | null = null;
  #isClosed = false;

  constructor(terminal: Terminal) {
    const { stdin, stdout, env } = terminal;
    this.#terminal = terminal;
    this.#historyPath = env["BOUGH_HISTORY"] ?? join(env["HOME"] ?? homedir(), ".bough_history");
    this.#history = readHistory(this.#historyPath);
    this.#interface = createInterface({
      input: stdin,
      output: stdout,
      terminal: true,
      history: [...this.#history],
      historySize: HISTORY_LINES,
      removeHistoryDuplicates: true,
    });
    this.#interface.on("history", (history: string[]) => {
      this.#history = [...history];
    });
    this.#interface.on("line", (text) => this.#arrive({ text }));
    this.#interface.on("SIGINT", () => {
      stdout.write("^C\n");
      // Empties the line that was being typed.
      this.#interface.write(null, { ctrl: true, name: "e" });
      this.#interface.write(null, { ctrl: true, name: "u" });
      this.#arrive("cancelled");
    });
    this.#interface.on("close", () => {
      this.#isClosed = true;
      this.#arrive(null);
    });
  }

  async next(prompt: () => Promise<string>): Promise<ShellLine> {
    if (this.#arrived.length === 0) {
      if (this.#isClosed) return null;
      const text = await prompt();
      this.#setRawMode(true);
      this.#interface.setPrompt(text);
      this.#interface.prompt();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#setRawMode(false);
    return this.#arrived.shift() ?? null;
  }

  close(): void {
    this.#interface.close();
    try {
      writeUserFile(this.#historyPath, this.#history.toReversed().join("\n"));
    } catch (error) {
      // A history that cannot be kept (a read-only home) is no reason to fail.
      if (!(error instanceof StoreError)) throw error;
    }
  }

  /** Off while SQL runs: then Ctrl-C is the system's signal and ends the process, as nothing else could end the SQL. */
  #setRawMode(isRaw: boolean): void {
    const { stdin } = this.#terminal;
    if (!this.#isClosed && stdin instanceof ReadStream) stdin.setRawMode(isRaw);
  }

  #arrive(line: ShellLine): void {
    this.#arrived.push(line);
    this.#wake?.();
    this.#wake = null;
  }
}

/** Newest first, as readline keeps it. */
function readHistory(path: string): string[] {
  try {
    const text = Buffer.from(readUserFile(path)).toString("utf8");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .reverse();
  } catch (error) {
    if (error instanceof StoreError) return [];
    throw error;
  }
}

export class PipeLines implements LineSource {
  readonly #lines: AsyncIterator<string>;

  /** `whenIdle` is called before the source waits for more input: time to show what is done. */
  constructor({ stdin }: Terminal, whenIdle: () => Promise<void>) {
    this.#lines = linesOf(decodeText(stdin), whenIdle);
  }

  async next(): Promise<ShellLine> {
    const { value, done } = await this.#lines.next();
    return done === true ? null : { text: value };
  }

  close(): void {
    void this.#lines.return?.();
  }
}

async function* linesOf(
  pieces: AsyncIterable<string>,
  whenIdle: () => Promise<void>,
): AsyncGenerator<string> {
  let rest = "";
  for await (const piece of pieces) {
    const lines = piece.split("\n");
    lines[0] = rest + (lines[0] ?? "");
    rest = lines.pop() ?? "";
    yield* lines;
    await whenIdle();
  }
  if (rest !== "") yield rest;
}
