import type { TextOutput } from "./terminal.ts";

/** Writes each line at once. One that cannot be written is lost: a full disk under its log does not end a server. */
export function logTo(output: TextOutput): (line: string) => void {
  return (line) => {
    output.append(line);
    output.flush().catch(() => {});
  };
}
