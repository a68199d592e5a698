import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CommandContext } from "./command-context.ts";
import { findServerSettings } from "./server-settings.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-settings-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function contextOf(
  env: Readonly<Record<string, string>> = {},
  store: string | null = null,
): CommandContext {
  const context = new CommandContext({
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    env,
  });
  context.configure({ output: "table", ...(store === null ? {} : { store }) });
  return context;
}

function file(text: string, name = "my.toml"): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe("settings of bough serve", () => {
  test("an option is stronger than a variable, a variable stronger than the file", async () => {
    const path = file('port = 1\nstop-ms = 2\nhost = "::1"\ndomain = ["a.example"]\n');
    const context = contextOf({ BOUGH_PORT: "3", BOUGH_STOP_MS: "4", BOUGH_NO_AUTH: "false" });
    const { settings, passedOver } = await findServerSettings(context, path, { port: 5 });
    expect(settings).toEqual({
      port: 5,
      stopMs: 4,
      host: "::1",
      domain: ["a.example"],
      noAuth: false,
    });
    expect(passedOver).toEqual([]);
  });

  test("standard variables of OpenTelemetry count after our own, and not where they are turned off (V3)", async () => {
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
      OTEL_SERVICE_NAME: "shop",
      OTEL_TRACES_SAMPLER: "always_on",
    };
    const settingsWith = async (more: Readonly<Record<string, string>>): Promise<unknown> =>
      (await findServerSettings(contextOf({ ...env, ...more }), file("port = 1"), {})).settings;
    expect(await settingsWith({})).toEqual({
      port: 1,
      otelEndpoint: "http://collector:4318",
      otelServiceName: "shop",
    });
    expect(await settingsWith({ BOUGH_OTEL_ENDPOINT: "http://mine" })).toMatchObject({
      otelEndpoint: "http://mine",
    });
    for (const off of [{ OTEL_SDK_DISABLED: "TRUE" }, { OTEL_TRACES_EXPORTER: "none" }])
      expect(await settingsWith(off)).toEqual({ port: 1 });
    expect(
      await settingsWith({ OTEL_SDK_DISABLED: "true", BOUGH_OTEL_ENDPOINT: "http://mine" }),
    ).toEqual({ port: 1, otelEndpoint: "http://mine" });
  });

  test("a path in the file is meant from its directory on, one in an option or variable from here (V4)", async () => {
    const path = file(
      'auth-key-file = ["keys/a.pem", "/etc/b.pem"]\nauth-secret-file = ["secret"]\nrevocations = "revoked.json"\n' +
        'tls-cert = "../cert.pem"\ntls-key = "/etc/key.pem"\nhost = "not/a/path"\n',
    );
    const { settings } = await findServerSettings(contextOf(), path, {});
    expect(settings).toEqual({
      authKeyFile: [join(directory, "keys/a.pem"), "/etc/b.pem"],
      authSecretFile: [join(directory, "secret")],
      revocations: join(directory, "revoked.json"),
      tlsCert: join(directory, "../cert.pem"),
      tlsKey: "/etc/key.pem",
      host: "not/a/path",
    });
    const fromHere = contextOf({ BOUGH_TLS_CERT: "cert.pem", BOUGH_AUTH_KEY_FILE: "a.pem" });
    expect(
      (await findServerSettings(fromHere, path, { revocations: "mine.json" })).settings,
    ).toMatchObject({ tlsCert: "cert.pem", authKeyFile: ["a.pem"], revocations: "mine.json" });
  });

  test("lists and yes-or-no come from the environment, too; an empty variable is none", async () => {
    const context = contextOf({
      BOUGH_DOMAIN: "a.example, b.example",
      BOUGH_NO_AUTH: "1",
      BOUGH_LOG_LEVEL: "debug",
      BOUGH_PORT: "",
    });
    const { settings } = await findServerSettings(context, null, {});
    expect(settings).toEqual({
      domain: ["a.example", "b.example"],
      noAuth: true,
      logLevel: "debug",
    });
  });

  test("the file names the store from its own directory on, unless it is named already", async () => {
    const path = file('store = "data"\n');
    const context = contextOf();
    await findServerSettings(context, path, {});
    expect(context.storePath).toBe(join(directory, "data"));
    const told = contextOf({ BOUGH_STORE: "elsewhere" });
    await findServerSettings(told, path, {});
    expect(told.storePath).toBe("elsewhere");
    const remote = contextOf();
    await findServerSettings(remote, file('store = "s3://bucket/shop"\n'), {});
    expect(remote.storePath).toBe("s3://bucket/shop");
  });

  test("BOUGH_CONFIG names the file; without one, bough.toml in the store is read", async () => {
    const store = join(directory, "store");
    mkdirSync(store);
    writeFileSync(join(store, "bough.toml"), "port = 7\n");
    expect((await findServerSettings(contextOf({}, store), null, {})).settings).toEqual({
      port: 7,
    });
    const context = contextOf({ BOUGH_CONFIG: file("port = 8\n") }, store);
    expect((await findServerSettings(context, null, {})).settings).toEqual({ port: 8 });
    writeFileSync(join(store, "bough.toml"), 'store = "other"\n');
    await expect(findServerSettings(contextOf({}, store), null, {})).rejects.toThrow(
      /"store": the file is in a store/,
    );
  });

  test("a file that was named must be there, and be TOML", async () => {
    await expect(
      findServerSettings(contextOf(), join(directory, "none.toml"), {}),
    ).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    await expect(
      findServerSettings(contextOf(), file("host = 'a'\nport = \n"), {}),
    ).rejects.toThrow(/^Cannot read ".*my\.toml": .* in line 2$/);
    await expect(findServerSettings(contextOf(), file("store = 3\n"), {})).rejects.toThrow(
      /"store" is 3, and has to be the path or URL of a store$/,
    );
  });

  test.each([
    ["prot = 1", /settings of ".*my\.toml": there is no "prot"; did you mean "port"\?$/],
    ["stores = 1", /there is no "stores"; did you mean "store"\?$/],
    ["streamIdleMs = 5", /there is no "streamIdleMs"; did you mean "stream-idle-ms"\?$/],
    ["completely-different = 5", /there is no "completely-different"$/],
    [
      "port = 70000\nstop-ms = 0",
      /settings of ".*my\.toml": "port" is 70000, and has to be a whole number from 0 to 65535; "stop-ms" is 0, and has/,
    ],
    ['port = "80"', /"port" is "80", and has to be a whole number from 0 to 65535$/],
    ["port = inf", /"port" is Infinity, and has to be a whole number/],
    ["port = 1979-05-27", /"port" is "1979-05-27", and has to be a whole number/],
    ["host = 7", /"host" is 7, and has to be a text that is not empty$/],
    ['tls-cert = ""', /"tls-cert" is "", and has to be a text that is not empty$/],
    ['domain = "a"', /"domain" is "a", and has to be a list of texts of which none is empty$/],
    ['domain = ["a", 1]', /"domain" is \["a",1\], and has to be a list of texts/],
    ['no-auth = "yes"', /"no-auth" is "yes", and has to be true or false$/],
    [
      'log-level = "loud"',
      /"log-level" is "loud", and has to be one of debug, info, warn, error, off$/,
    ],
    [`host = ["${"x".repeat(1000)}"]`, /"host" is \["x{98}\.\.\., and has to be a text/],
    ["[server]\nport = 1", /there is no table "server": settings stand at the top of the file/],
    ["listen.port = 1", /there is no table "listen": /],
  ])("refuses %j in a file", async (text, message) => {
    const found = findServerSettings(contextOf(), file(text), {});
    await expect(found).rejects.toThrow(message);
    await expect(found).rejects.toBeInstanceOf(RangeError);
  });

  test.each([
    [
      { BOUGH_PORTS: "1" },
      /of the environment: there is no "BOUGH_PORTS"; did you mean "BOUGH_PORT"\?/,
    ],
    [{ BOUGH_STREAM_IDLE: "1" }, /did you mean "BOUGH_STREAM_IDLE_MS"\?/],
    [
      { BOUGH_PORT: "tcp://10.0.0.1:8080" },
      /"BOUGH_PORT" is "tcp:\/\/10\.0\.0\.1:8080", and has to be a whole number from 0 to 65535; Docker and Kubernetes set .*enableServiceLinks: false/,
    ],
    [
      { BOUGH_PORT: "http" },
      /"BOUGH_PORT" is "http", and has to be a whole number from 0 to 65535$/,
    ],
    [{ BOUGH_NO_AUTH: "yes" }, /"BOUGH_NO_AUTH" is "yes", and has to be true or false$/],
    [
      { BOUGH_DOMAIN: "a.example,,b.example" },
      /"BOUGH_DOMAIN" is "a\.example,,b\.example", and has to be a list of texts of which none is empty$/,
    ],
  ])("refuses %j in the environment", async (env, message) => {
    await expect(findServerSettings(contextOf(env), null, {})).rejects.toThrow(message);
  });

  test("passes over what others put into the environment, and tells of it", async () => {
    const env = {
      BOUGH_SERVICE_HOST: "10.0.0.1",
      BOUGH_PORT_8080_TCP_ADDR: "10.0.0.1",
      BOUGH_STORE: directory,
      BOUGH_TEST_LONG: "1",
    };
    const { settings, passedOver } = await findServerSettings(contextOf(env), null, {});
    expect(settings).toEqual({});
    expect(passedOver).toEqual(["BOUGH_SERVICE_HOST", "BOUGH_PORT_8080_TCP_ADDR"]);
  });
});
