/** A scrub of a store with several partitions: one after the other, at one rate. Positions are those of a partition after its number and a colon. */
import type { ScrubOptions, ScrubReport } from "../integrity/scrub.ts";
import { wholeCheck } from "./partition-reports.ts";

export async function scrubPartitions(
  count: number,
  options: ScrubOptions,
  scrub: (partition: number, options: ScrubOptions) => Promise<ScrubReport>,
): Promise<ScrubReport> {
  const { startAfter, onProgress, ...others } = options;
  const [first, after] = positionOf(startAfter);
  const reports: ScrubReport[] = [];
  let bytes = 0;
  for (let index = first; index < count; index++) {
    const report = await scrub(index, {
      ...others,
      ...(index === first && after !== null ? { startAfter: after } : {}),
      onProgress: (progress) =>
        onProgress?.({
          bytes: bytes + progress.bytes,
          position: `${index}:${progress.position}`,
        }),
    });
    reports.push(report);
    bytes += report.bytes;
    const { stoppedAt } = report;
    if (stoppedAt !== null)
      return { ...wholeCheck(reports, first), bytes, stoppedAt: `${index}:${stoppedAt}` };
  }
  return { ...wholeCheck(reports, first), bytes, stoppedAt: null };
}

/** The partition, and the position in it; null: from its beginning. */
function positionOf(startAfter: string | undefined): [number, string | null] {
  if (startAfter === undefined) return [0, null];
  const [, index, position] = /^(\d+):(.*)$/.exec(startAfter) ?? [];
  if (index === undefined || position === undefined)
    throw new TypeError(`Option "startAfter": "${startAfter}" is not a position of a scrub`);
  return [Number(index), position];
}
