/** "DATABASE/BRANCH" arguments: a revision without "@". */
import { parseRevision } from "../branch/revision.ts";
import { UsageError } from "./errors.ts";

export interface BranchArgument {
  readonly database: string;
  readonly branch: string;
}

/** `fallback` is the branch when the text names none; without it that is wrong usage. */
export function parseBranch(text: string, fallback?: string): BranchArgument {
  const { database, branch, at } = parseRevision(text);
  if (at !== null)
    throw new UsageError(`Cannot use "${text}" here: it names a fixed version, a branch is needed`);
  const name = branch ?? fallback;
  if (name === undefined)
    throw new UsageError(
      `Cannot use "${text}" here: it names a database, a branch is needed; write "${database}/NAME"`,
    );
  return { database, branch: name };
}
