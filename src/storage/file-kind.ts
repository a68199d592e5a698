import fs from "node:fs";

/** "other": a device, a pipe, a socket. Null: nothing is there, or it cannot be looked at. Links are followed. */
export type FileKind = "file" | "directory" | "other";

export function fileKindSync(path: string): FileKind | null {
  try {
    const facts = fs.statSync(path, { throwIfNoEntry: false });
    if (facts === undefined) return null;
    if (facts.isFile()) return "file";
    return facts.isDirectory() ? "directory" : "other";
  } catch {
    return null;
  }
}
