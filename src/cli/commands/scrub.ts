import { type Command, Option } from "commander";
import type { ScrubReport } from "../../integrity/scrub.ts";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { ProgressBar } from "../progress.ts";
import { failIfDamaged, printReport } from "./check.ts";

interface ScrubFlags {
  readonly rate: string;
  readonly startAfter?: string;
}

export function addScrubCommand(program: Command, context: CommandContext): void {
  program
    .command("scrub")
    .description("read everything that the store has on disk again, at a set rate")
    .addOption(
      new Option("--rate <rate>", "bytes per second: 50MB/s, 8MiB/s, or max").default("50MB/s"),
    )
    .option("--start-after <position>", "go on where an interrupted scrub was")
    .addHelpText(
      "after",
      `
Verifies every chunk with its id and every block of the history. Ctrl-C ends it and says where it was. Exit code 1: damaged.
A store that is open in a program is scrubbed by that program: store.scrub(), or the option scrubBytesPerSecond.
${examples([["bough scrub"], ["bough scrub --rate 10MB/s --output json"]])}`,
    )
    .action((flags: ScrubFlags) => scrub(context, flags));
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1000,
  m: 1000 ** 2,
  g: 1000 ** 3,
  ki: 1024,
  mi: 1024 ** 2,
  gi: 1024 ** 3,
};

/** Bytes per second of "50MB/s", "8MiB", "1000"; Infinity of "max". */
export function parseRate(text: string): number {
  if (text === "max") return Infinity;
  const match = /^([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?)?b?(?:\/s)?$/i.exec(text);
  const rate = Number(match?.[1]) * (UNITS[(match?.[2] ?? "").toLowerCase()] ?? NaN);
  if (rate > 0 && Number.isFinite(rate)) return rate;
  throw new UsageError(
    `Cannot read --rate "${text}": it must be bytes per second, such as 50MB/s, or max`,
  );
}

async function scrub(context: CommandContext, flags: ScrubFlags): Promise<void> {
  const bytesPerSecond = parseRate(flags.rate);
  const { startAfter } = flags;
  if (startAfter !== undefined && !/^(?:chunk\/[0-9a-f]{32}|history\/\d+)$/.test(startAfter))
    throw new UsageError(`Cannot go on after "${startAfter}": it is no position of a scrub`);
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  const bar = new ProgressBar("Scrubbing", context.terminal.stderr);
  process.once("SIGINT", stop);
  let report: ScrubReport;
  try {
    report = await context.withStore((store) =>
      store.scrub({
        bytesPerSecond,
        startAfter,
        signal: controller.signal,
        // Ids are spread evenly, so their first byte says how far it is.
        onProgress: ({ bytes, position }) =>
          bar.update({
            done: position.startsWith("chunk/") ? Number.parseInt(position.slice(6, 8), 16) : 256,
            total: 256,
            text: `${showBytes(bytes)} read`,
          }),
      }),
    );
  } finally {
    process.removeListener("SIGINT", stop);
    bar.end();
  }
  if (context.format === "json") await context.printJson(report);
  else {
    await printReport(context, report);
    if (report.stoppedAt !== null)
      await context.printLine(
        `Stopped; go on with: ${context.commandLine("scrub", "--start-after", report.stoppedAt)}`,
      );
  }
  failIfDamaged(context, report);
}
