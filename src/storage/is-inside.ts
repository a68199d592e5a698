import { existsSync, realpathSync } from "node:fs";
import { dirname, isAbsolute, relative, sep } from "node:path";

/** Whether a file of that path would be in the directory or below it, symbolic links followed. */
export function isInside(directory: string, path: string): boolean {
  const parent = dirname(path);
  if (!existsSync(parent)) return false;
  const way = relative(realpathSync(directory), realpathSync(parent));
  return !isAbsolute(way) && way !== ".." && !way.startsWith(`..${sep}`);
}
