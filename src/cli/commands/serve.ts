/** serve: the store over HTTP and WebSocket, for clients of libSQL. */
import { type Command, Option } from "commander";
import {
  CONNECTION_BYTES_MAX,
  SERVER_SETTINGS,
  type ServerSettings,
  type SettingFacts,
} from "../../server/setting-list.ts";
import { kebabName } from "../../server/setting-name.ts";
import type { Store } from "../../store/store.ts";
import type { ThreadedStore } from "../../threads/threaded-store.ts";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { logTo } from "../log-output.ts";

export function addServeCommand(program: Command, context: CommandContext): void {
  const command = program
    .command("serve")
    .description("serve the store to clients of libSQL, over HTTP and WebSocket")
    .addHelpText(
      "after",
      `
Every option of the server is a variable of the environment too, BOUGH_STREAM_IDLE_MS=5000, and a line of the file, stream-idle-ms = 5000,
where "store" is the directory. An option is stronger than a variable, a variable stronger than the file. Lists: BOUGH_DOMAIN=a.example,b.example.
A branch has a URL: http://127.0.0.1:8080/shop/feature-auth/ and a version http://127.0.0.1:8080/shop@120/ - with the slash at the end.
The store is made when there is none. Other commands on its directory go through the server, over a socket there. SIGTERM and SIGINT end the server: what was asked is answered first.
${examples([
  ["bough serve --store ./data"],
  ["bough serve --config /etc/bough.toml"],
  [
    "bough serve --store ./data --host 0.0.0.0 --auth-key-file token-key.pub.pem --tls-cert cert.pem --tls-key key.pem",
  ],
])}`,
    );
  command.option(
    "--config <file>",
    "file with settings (default: $BOUGH_CONFIG, then bough.toml here or in the store, where there is one)",
  );
  for (const [name, facts] of Object.entries(SERVER_SETTINGS))
    command.addOption(option(name, facts));
  command.action(({ config, ...given }: Record<string, unknown>) =>
    serve(context, typeof config === "string" ? config : null, settingsOf(given)),
  );
}

/** What is refused, the port that is not free too, is refused before the store is opened: that may make it, or add partitions to it. */
async function serve(
  context: CommandContext,
  config: string | null,
  options: Partial<ServerSettings>,
): Promise<void> {
  context.requireHere("serve");
  if (config === "") throw new UsageError("Cannot use --config: FILE is empty");
  const { bindServer } = await import("../../server/serve.ts");
  const { findServerSettings } = await import("../server-settings.ts");
  const { checkSettings } = await import("../../server/settings.ts");
  const { settings, passedOver } = await startServer(async () => {
    checkSettings(options, { title: "the command line", nameOf: (name) => `--${kebabName(name)}` });
    return await findServerSettings(context, config, options);
  });
  const storeDirectory = await context.localDirectory();
  const writeLog = logTo(context.errors);
  await using bound = await startServer(() => bindServer({ settings, writeLog, storeDirectory }));
  const { connectionBytesMax = CONNECTION_BYTES_MAX, threads = 0 } = settings;
  const serveOpen = async (store: Store | ThreadedStore): Promise<void> => {
    const server = await startServer(() => bound.serve(store));
    try {
      const { url } = server;
      for (const name of passedOver) server.log.warn("setting.unknown", { variable: name });
      const stopped = untilStopped();
      await context.printDone(`Serving store "${store.path}" at ${url}`, {
        store: store.path,
        url,
      });
      await context.output.flush();
      await stopped;
    } finally {
      await server.stop();
    }
  };
  const opened = { create: true, connectionBytesMax };
  if (threads > 1) await context.withThreadedStore(serveOpen, { ...opened, threads });
  else await context.withLocalStore("serve", opened, serveOpen);
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

function option(name: string, facts: SettingFacts): Option {
  const flag = `--${kebabName(name)}`;
  switch (facts.type) {
    case "flag":
      return new Option(flag, facts.description);
    case "text":
      return new Option(`${flag} <text>`, withDefault(facts));
    case "choice":
      return new Option(`${flag} <what>`, withDefault(facts)).choices(facts.choices);
    case "integer":
      return new Option(`${flag} <number>`, withDefault(facts)).argParser((text) =>
        /^[0-9]{1,15}$/.test(text) ? Number(text) : text,
      );
    case "texts":
      return new Option(`${flag} <text...>`, facts.description);
  }
}

function withDefault({ description, defaultValue }: SettingFacts): string {
  return defaultValue === null ? description : `${description} (default: ${String(defaultValue)})`;
}

/** Commander takes "--no-auth" for the negation of "--auth". */
function settingsOf({ auth, ...given }: Record<string, unknown>): Partial<ServerSettings> {
  return auth === false ? { ...given, noAuth: true } : given;
}
