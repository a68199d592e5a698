/** serve: the store over HTTP and WebSocket, for clients of libSQL. */
import { type Command, InvalidArgumentError, Option } from "commander";
import {
  CONNECTION_BYTES_MAX,
  SERVER_SETTINGS,
  type ServerSettings,
  type SettingFacts,
} from "../../server/setting-list.ts";
import { StoreError } from "../../errors.ts";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";

export function addServeCommand(program: Command, context: CommandContext): void {
  const command = program
    .command("serve")
    .description("serve the store to clients of libSQL, over HTTP and WebSocket")
    .addHelpText(
      "after",
      `
A branch has a URL: http://127.0.0.1:8080/shop/feature-auth/ and a version http://127.0.0.1:8080/shop@120/ - with the slash at the end.
The store is made when there is none. SIGTERM and SIGINT end the server: what was asked is answered first.
${examples([
  ["bough serve --store ./data"],
  [
    "bough serve --store ./data --host 0.0.0.0 --auth-key-file token-key.pub.pem --tls-cert cert.pem --tls-key key.pem",
  ],
])}`,
    );
  for (const [name, facts] of Object.entries(SERVER_SETTINGS))
    command.addOption(option(name, facts));
  command.action((given: Record<string, unknown>) => serve(context, settingsOf(given)));
}

async function serve(context: CommandContext, settings: Partial<ServerSettings>): Promise<void> {
  const { serveStore } = await import("../../server/serve.ts");
  const { connectionBytesMax = CONNECTION_BYTES_MAX } = settings;
  await context.withStore(
    async (store) => {
      const server = await startServer(() =>
        serveStore(store, {
          settings,
          onBug: (error) => void reportBug(context, error),
          onProblem: (error) => void reportProblem(context, error),
        }),
      );
      const { url } = server;
      const stopped = untilStopped();
      await context.printDone(`Serving store "${store.path}" at ${url}`, {
        store: store.path,
        url,
      });
      await context.output.flush();
      await stopped;
      await server.stop();
    },
    { create: true, connectionBytesMax },
  );
}

/** A setting that is wrong is wrong usage. */
async function startServer<T>(start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}

/** Resolves at the first signal; a second one ends the process at once. */
function untilStopped(): Promise<void> {
  return new Promise((resolve) => {
    const stop = (): void => {
      process.off("SIGTERM", stop);
      process.off("SIGINT", stop);
      resolve();
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
  });
}

/** Keys that cannot be read now: those of before are used. */
async function reportProblem(context: CommandContext, error: unknown): Promise<void> {
  const code = error instanceof StoreError ? error.code : "AUTH_UNAVAILABLE";
  await context.warn({ code }, error instanceof Error ? error.message : String(error));
  await context.errors.flush();
}

async function reportBug(context: CommandContext, error: unknown): Promise<void> {
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  await context.warn({ code: "INTERNAL" }, what);
  await context.errors.flush();
}

function option(name: string, facts: SettingFacts): Option {
  const flag = `--${kebab(name)}`;
  switch (facts.type) {
    case "flag":
      return new Option(flag, facts.description);
    case "text":
      return new Option(`${flag} <text>`, withDefault(facts));
    case "integer":
      return new Option(`${flag} <number>`, withDefault(facts)).argParser(readInteger);
    case "texts":
      return new Option(`${flag} <text...>`, facts.description);
  }
}

function withDefault({ description, defaultValue }: SettingFacts): string {
  return defaultValue === null ? description : `${description} (default: ${String(defaultValue)})`;
}

function readInteger(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) throw new InvalidArgumentError("It is not a whole number");
  return Number(text);
}

/** Commander takes "--no-auth" for the negation of "--auth". */
function settingsOf({ auth, ...given }: Record<string, unknown>): Partial<ServerSettings> {
  return auth === false ? { ...given, noAuth: true } : given;
}

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
