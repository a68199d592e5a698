/** `bough serve` as a process: settings from everywhere, and the log on its error output. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SERVER_SETTINGS } from "../src/server/setting-list.ts";
import { kebabName } from "../src/server/setting-name.ts";
import { CommandDirectory } from "../src/testing/run-command.ts";
import { testProgram } from "../src/testing/test-program.ts";

const command: string = testProgram(new URL("../src/cli/bough.ts", import.meta.url));
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-serve-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("a file here names store and settings; the log is lines of JSON; SIGTERM ends it", async () => {
  writeFileSync(
    join(directory, "bough.toml"),
    'store = "data"\nport = 1\nlog-level = "debug"\ndefault-database = "main-db"\n',
  );
  const child = spawn(process.execPath, [command, "serve", "--port", "0"], {
    cwd: directory,
    env: { ...process.env, BOUGH_PORT: "2", BOUGH_SERVICE_HOST: "10.0.0.1", BOUGH_STORE: "" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    const errors: Buffer[] = [];
    child.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
    const [line] = await once(child.stdout, "data");
    const [, store, url] = /^Serving store "(.*)" at (\S+)\n$/.exec(String(line)) ?? [];
    expect(store).toBe(join(directory, "data"));
    const response = await fetch(`${url}/v2/pipeline`, {
      method: "POST",
      body: JSON.stringify({ requests: [{ type: "execute", stmt: { sql: "SELECT 1" } }] }),
    });
    expect(response.status).toBe(200);
    const exit = once(child, "exit");
    child.kill("SIGTERM");
    expect(await exit).toEqual([0, null]);
    const events = Buffer.concat(errors)
      .toString()
      .trimEnd()
      .split("\n")
      .map((text) => JSON.parse(text) as Record<string, unknown>);
    expect(events).toMatchObject([
      { level: "info", event: "server.start", url },
      { level: "warn", event: "setting.unknown", variable: "BOUGH_SERVICE_HOST" },
      { level: "debug", event: "request", path: "/v2/pipeline", status: 200 },
      { level: "info", event: "server.stopping", streams: 1 },
      { level: "info", event: "server.stopped", isInTime: true },
    ]);
  } finally {
    child.kill("SIGKILL");
  }
});

test("the help has every setting, and how else it is given", async () => {
  using commands = new CommandDirectory();
  const help = await commands.ok(["serve", "--help"]);
  for (const name of Object.keys(SERVER_SETTINGS)) expect(help).toContain(`--${kebabName(name)}`);
  for (const text of ["--config <file>", "BOUGH_STREAM_IDLE_MS=5000", "stream-idle-ms = 5000"])
    expect(help).toContain(text);
});

test("a setting that there is not is wrong usage, and begins nothing", async () => {
  using commands = new CommandDirectory();
  writeFileSync(join(directory, "my.toml"), "stop-mss = 1\n");
  const config = join(directory, "my.toml");
  expect(await commands.bough(["serve", "--config", config])).toMatchObject({
    exitCode: 2,
    stderr: `bough: Cannot use these settings of "${config}": there is no "stop-mss"; did you mean "stop-ms"?\n`,
  });
  for (const [words, message] of [
    [["--port", "x"], '"--port" is "x", and has to be a whole number from 0 to 65535'],
    [["--domain", ""], '"--domain" is [""], and has to be a list of texts of which none is empty'],
  ] as const)
    expect(await commands.fails(2, ["serve", ...words])).toBe(
      `Cannot use these settings of the command line: ${message}`,
    );
  expect(await commands.fails(2, ["serve", "--config", ""])).toContain("FILE is empty");
  expect(await commands.fails(2, ["serve", "--log-level", "loud"])).toBe(
    'Option "--log-level <what>" argument "loud" is invalid. Allowed choices are debug, info, warn, error, off; see "bough help"',
  );
  expect(await commands.bough(["serve", "--prot", "1"])).toMatchObject({
    exitCode: 2,
    stderr: 'bough: Unknown option "--prot"; did you mean "--port"?\n',
  });
  expect(await commands.bough(["serve", "--config", join(directory, "none.toml")])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("none.toml"),
  });
});

test("an address that cannot be had is named, with what to do", async () => {
  using commands = new CommandDirectory();
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  try {
    expect(await commands.fails(1, ["serve", "--port", String(port)])).toBe(
      `Cannot listen on "127.0.0.1:${port}": another process listens there; end it, or give another --port, or 0 for any that is free`,
    );
  } finally {
    taken.close();
  }
  expect(await commands.fails(2, ["serve", "--no-auth", "--auth-key-file", "x"])).toContain(
    'Cannot use "no-auth" together with keys for tokens',
  );
  expect(await commands.fails(2, ["serve", "--tls-cert", "x"])).toBe(
    'Cannot serve over TLS: "tls-cert" and "tls-key" belong together',
  );
});

// The store was opened first: what was refused had made a store, and partitions, which cannot be taken away again.
test("options that are refused make no store, and add no partitions to one", async () => {
  using commands = new CommandDirectory();
  for (const words of [
    ["--threads", "6", "--port", "99999"],
    ["--threads", "100"],
  ]) {
    expect(await commands.fails(2, ["serve", ...words])).toMatch(/^Cannot .*"--(?:port|threads)"/);
    expect(existsSync(commands.file("store"))).toBe(false);
  }
  await commands.ok(["database", "create", "shop"]);
  await commands.fails(2, ["serve", "--threads", "6", "--port", "99999"]);
  expect(await commands.json(["store", "info"])).toMatchObject({ partitions: 1 });
});
