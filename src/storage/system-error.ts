import { StoreError, type StoreErrorCode } from "../errors.ts";

/** What a caller reads about a failure of the operating system: its kind, and what to do about it. */
interface Explanation {
  readonly code: StoreErrorCode;
  readonly text: string;
}

/** Node's, for what no system has a name for; it may also stand for a bug. */
const ZERO_IN_PATH = "ERR_INVALID_ARG_VALUE";

const EXPLANATIONS: ReadonlyMap<string, Explanation> = new Map([
  ["ENOENT", { code: "FILE_NOT_FOUND", text: "no such file or directory" }],
  ["EEXIST", { code: "FILE_EXISTS", text: "the name is already taken" }],
  [
    "ENOSPC",
    { code: "DISK_FULL", text: "the disk is full; free some space and open the store again" },
  ],
  [
    "EDQUOT",
    {
      code: "DISK_FULL",
      text: "the disk quota is used up; free some space and open the store again",
    },
  ],
  [
    "EACCES",
    {
      code: "PERMISSION",
      text: "permission denied; check the owner and the mode of the file and its directories",
    },
  ],
  [
    "EPERM",
    {
      code: "PERMISSION",
      text: "the system does not permit it; check the owner and the attributes of the file",
    },
  ],
  ["EROFS", { code: "PERMISSION", text: "the file system is mounted read-only" }],
  [
    "EMFILE",
    { code: "IO", text: 'too many open files in this process; raise the limit ("ulimit -n")' },
  ],
  ["ENFILE", { code: "IO", text: "too many open files on this machine" }],
  ["ENOTDIR", { code: "IO", text: "a part of the path is a file, not a directory" }],
  [ZERO_IN_PATH, { code: "FILE_NOT_FOUND", text: "a path has no zero character" }],
  ["ENAMETOOLONG", { code: "IO", text: "the name is longer than the system allows" }],
  ["EISDIR", { code: "IO", text: "it is a directory, not a file" }],
  [
    "EFBIG",
    { code: "IO", text: "the file is larger than the file system or the process limit allows" },
  ],
  [
    "EIO",
    {
      code: "IO",
      text: "the device reports an input/output error; check the disk and restore from a copy",
    },
  ],
]);

/** The system's own name of an error ("ENOENT"), or null when `error` does not come from the system. */
export function systemErrorName(error: unknown): string | null {
  if (!(error instanceof Error) || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}

/**
 * Turns an error of the operating system into a StoreError: `action` ("Cannot open"), then the path, then what went
 * wrong and what to do. A StoreError passes unchanged; so does anything that the system did not raise (a bug).
 */
export function fromSystemError(action: string, path: string, error: unknown): unknown {
  if (error instanceof StoreError) return error;
  const name = systemErrorName(error);
  if (name === null) return error;
  const isPathWrong = name === ZERO_IN_PATH && path.includes("\0");
  if (name.startsWith("ERR_") && !isPathWrong) return error;
  return explainSystemError({ action, path, name, cause: error });
}

/** The StoreError for the system's error `name` ("ENOENT"). */
export function explainSystemError(options: {
  readonly action: string;
  readonly path: string;
  readonly name: string;
  readonly cause: unknown;
}): StoreError {
  const { action, path, name, cause } = options;
  const explanation = EXPLANATIONS.get(name);
  const text = explanation === undefined ? name : `${explanation.text} (${name})`;
  return new StoreError(explanation?.code ?? "IO", `${action} "${path}": ${text}`, {
    cause,
    details: { path, systemCode: name },
  });
}
