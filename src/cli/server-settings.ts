/** The settings of `bough serve`, from its options, the environment and bough.toml. */
import { dirname, join, resolve } from "node:path";
import { StoreError } from "../errors.ts";
import type { ServerSettings } from "../server/setting-list.ts";
import {
  type FileSettings,
  settingsOfEnvironment,
  settingsOfFile,
} from "../server/setting-sources.ts";
import type { CommandContext } from "./command-context.ts";
import { readUserFile } from "./user-files.ts";

const FILE_NAME = "bough.toml";

export interface FoundSettings {
  readonly settings: Partial<ServerSettings>;
  /** Variables of the environment that look like settings and are none. */
  readonly passedOver: readonly string[];
}

/** Tells the context of the store that the file names. Throws RangeError for what is wrong, FILE_NOT_FOUND. */
export async function findServerSettings(
  context: CommandContext,
  config: string | null,
  options: Partial<ServerSettings>,
): Promise<FoundSettings> {
  const { env } = context.terminal;
  const named = config ?? (env["BOUGH_CONFIG"] || null);
  const environment = settingsOfEnvironment(env);
  const file = named === null ? await findFile(context) : await readFile(context, named);
  return {
    settings: { ...file?.settings, ...environment.settings, ...options },
    passedOver: environment.passedOver,
  };
}

/** Here, then in the store. */
async function findFile(context: CommandContext): Promise<FileSettings | null> {
  const here = await nullIfMissing(readFile(context, FILE_NAME));
  if (here !== null || context.isRemote) return here;
  const path = join(context.storePath, FILE_NAME);
  const inStore = await nullIfMissing(parseFile(path));
  if (inStore === null || inStore.store === null) return inStore;
  throw new RangeError(
    `Cannot use these settings of "${path}": "store": the file is in a store, and cannot name one`,
  );
}

/** A store that the file names is meant from the file's directory on. */
async function readFile(context: CommandContext, path: string): Promise<FileSettings> {
  const file = await parseFile(path);
  const { store } = file;
  if (store !== null)
    context.useStore(
      /^[a-z][a-z0-9+.-]*:\/\//i.test(store) ? store : resolve(dirname(path), store),
    );
  return file;
}

async function parseFile(path: string): Promise<FileSettings> {
  return await settingsOfFile(Buffer.from(readUserFile(path)).toString("utf8"), path);
}

function isMissing({ code, details }: StoreError): boolean {
  return code === "FILE_NOT_FOUND" || details["systemCode"] === "ENOTDIR";
}

async function nullIfMissing(file: Promise<FileSettings>): Promise<FileSettings | null> {
  try {
    return await file;
  } catch (error) {
    // Where the store's path is a file, opening it says so.
    if (error instanceof StoreError && isMissing(error)) return null;
    throw error;
  }
}
