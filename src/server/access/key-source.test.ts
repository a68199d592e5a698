import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  ed25519Pair,
  publicJwk,
  publicPem,
  TestClock,
  tokenOf,
} from "../../testing/token-fixture.ts";
import { Authenticator } from "./authenticator.ts";
import { KeyFile, KeyUrl } from "./key-source.ts";
import { KEY_BYTES_MAX } from "./token-key.ts";

let clock: TestClock;
let problems: unknown[];
const onProblem = (problem: unknown): void => void problems.push(problem);

beforeEach(() => {
  clock = new TestClock();
  problems = [];
});

const withCode = (code: string) => expect.objectContaining({ code });

describe("a key file", () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "bough-keys-"));
    path = join(directory, "token.pem");
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  test("is read, and again once it has changed", () => {
    const [first, second] = [ed25519Pair(), ed25519Pair()];
    writeFileSync(path, publicPem(first));
    const file = new KeyFile(path, { now: clock.now, onProblem });
    const before = file.keys();
    expect(before[0]?.key.equals(first.publicKey)).toBe(true);
    writeFileSync(`${path}.new`, publicPem(first) + publicPem(second));
    renameSync(`${path}.new`, path);
    expect(file.keys()).toBe(before);
    clock.advance(1000);
    expect(file.keys()).toHaveLength(2);
    expect(file.keys()).toBe(file.keys());
    expect(problems).toEqual([]);
  });

  test("that breaks or goes leaves the keys as they were, and is reported once until it is mended", () => {
    const pair = ed25519Pair();
    writeFileSync(path, publicPem(pair));
    const file = new KeyFile(path, { now: clock.now, onProblem });
    const before = file.keys();
    writeFileSync(path, "");
    clock.advance(1000);
    expect(file.keys()).toBe(before);
    expect(file.keys()).toBe(before);
    expect(problems).toEqual([withCode("TOKEN_KEY_INVALID")]);
    rmSync(path);
    clock.advance(1000);
    expect(file.keys()).toBe(before);
    expect(problems).toEqual([withCode("TOKEN_KEY_INVALID"), withCode("FILE_NOT_FOUND")]);
    writeFileSync(path, publicPem(ed25519Pair()));
    clock.advance(1000);
    expect(file.keys()).not.toBe(before);
    expect(problems).toHaveLength(2);
  });

  test("that cannot be used is an error at once", () => {
    expect(() => new KeyFile(path)).toThrow(withCode("FILE_NOT_FOUND"));
    writeFileSync(path, "no key");
    expect(() => new KeyFile(path)).toThrow(withCode("TOKEN_KEY_INVALID"));
    writeFileSync(path, "x".repeat(KEY_BYTES_MAX + 1));
    expect(() => new KeyFile(path)).toThrow(withCode("LIMIT"));
    writeFileSync(path, "a secret that is long enough for HS256!");
    expect(new KeyFile(path, { isSecret: true }).keys()[0]?.algorithm).toBe("HS256");
  });
});

describe("a JWKS address", () => {
  const pair = ed25519Pair();
  const set = (...kids: string[]): string =>
    JSON.stringify({ keys: kids.map((kid) => publicJwk(pair, kid)) });
  let requests: string[];
  let answer: () => Response | Promise<Response>;

  beforeEach(() => {
    requests = [];
    answer = () => new Response(set("one"));
  });

  function keyUrl(): KeyUrl {
    return new KeyUrl("https://issuer.example/jwks", {
      now: clock.now,
      onProblem,
      fetch: async (url, init) => {
        requests.push(url);
        expect(init.redirect).toBe("error");
        expect(init.signal).toBeInstanceOf(AbortSignal);
        return answer();
      },
    });
  }

  const ids = (source: KeyUrl) => source.keys().map(({ id }) => id);

  test("is fetched when its keys are needed, by one request for all who wait", async () => {
    const source = keyUrl();
    expect(ids(source)).toEqual([]);
    expect(source.failure).toMatchObject({ code: "AUTH_UNAVAILABLE" });
    expect(requests).toEqual([]);
    await Promise.all([source.refresh(), source.refresh(), source.refresh()]);
    expect(requests).toEqual(["https://issuer.example/jwks"]);
    expect(ids(source)).toEqual(["one"]);
    expect(source.failure).toBeNull();
  });

  test("is asked again for unknown keys at most twice a minute", async () => {
    const source = keyUrl();
    await source.refresh();
    answer = () => new Response(set("one", "two"));
    for (let second = 0; second < 29; second++) {
      clock.advance(1000);
      await source.refresh();
    }
    expect(requests).toHaveLength(1);
    expect(ids(source)).toEqual(["one"]);
    clock.advance(1000);
    await source.refresh();
    expect(requests).toHaveLength(2);
    expect(ids(source)).toEqual(["one", "two"]);
  });

  test("keeps its list as long as the answer is the same", async () => {
    const source = keyUrl();
    await source.refresh();
    const list = source.keys();
    clock.advance(60_000);
    await source.refresh();
    expect(requests).toHaveLength(2);
    expect(source.keys()).toBe(list);
  });

  test("is asked again after ten minutes, behind those who use the keys", async () => {
    const source = keyUrl();
    await source.refresh();
    clock.advance(600_000 - 1);
    expect(ids(source)).toEqual(["one"]);
    expect(requests).toHaveLength(1);
    answer = () => new Response(set("two"));
    clock.advance(1);
    expect(ids(source)).toEqual(["one"]);
    expect(requests).toHaveLength(2);
    await source.refresh();
    expect(requests).toHaveLength(2);
    expect(ids(source)).toEqual(["two"]);
  });

  test("that fails leaves its keys in use for an hour, then not any more, until it is there again", async () => {
    const source = keyUrl();
    await source.refresh();
    answer = () => Promise.reject(new TypeError("fetch failed"));
    clock.advance(3_600_000 - 1);
    await source.refresh();
    expect(ids(source)).toEqual(["one"]);
    expect(source.failure).toBeNull();
    expect(problems).toEqual([withCode("AUTH_UNAVAILABLE")]);
    clock.advance(1);
    expect(ids(source)).toEqual([]);
    expect(source.failure).toMatchObject({ code: "AUTH_UNAVAILABLE" });
    answer = () => new Response(set("one"));
    clock.advance(5_000);
    await source.refresh();
    expect(ids(source)).toEqual(["one"]);
    expect(source.failure).toBeNull();
  });

  test("that fails is not asked again for five seconds", async () => {
    answer = () => new Response("", { status: 503 });
    const source = keyUrl();
    await source.refresh();
    clock.advance(4_999);
    await source.refresh();
    expect(requests).toHaveLength(1);
    clock.advance(1);
    await source.refresh();
    expect(requests).toHaveLength(2);
  });

  test.each<[string, () => Response]>([
    ["an error", () => new Response(set("one"), { status: 500 })],
    ["no JSON", () => new Response("<html>")],
    ["no set", () => new Response(JSON.stringify(publicJwk(pair)))],
    ["too many keys", () => new Response(set(...Array.from({ length: 65 }, String)))],
    ["too much", () => new Response(`${set("one")}${" ".repeat(KEY_BYTES_MAX)}`)],
  ])("an answer that is %s changes nothing", async (_, bad) => {
    const source = keyUrl();
    await source.refresh();
    const list = source.keys();
    answer = bad;
    clock.advance(60_000);
    await source.refresh();
    expect(source.keys()).toBe(list);
    expect(problems).toHaveLength(1);
  });

  test("gives no secrets, whatever is published", async () => {
    answer = () => new Response(JSON.stringify({ keys: [{ kty: "oct", k: "A".repeat(43) }] }));
    const source = keyUrl();
    await source.refresh();
    expect(source.keys()).toEqual([]);
    expect(source.failure).toBeNull();
  });

  test("must be https, or on this machine", () => {
    for (const url of [
      "https://issuer.example/a",
      "http://127.0.0.1:1/a",
      "http://localhost/a",
      "http://[::1]/a",
    ])
      expect(new KeyUrl(url)).toBeInstanceOf(KeyUrl);
    for (const url of [
      "http://issuer.example/a",
      "file:///etc/passwd",
      "ftp://localhost",
      "words",
      "",
      "https://a:b@issuer.example/",
    ])
      expect(() => new KeyUrl(url), url).toThrow(withCode("TOKEN_KEY_INVALID"));
  });
});

describe("a real JWKS server", () => {
  let server: Server;
  let url: string;
  let listener: RequestListener;

  beforeEach(async () => {
    server = createServer((request, response) => listener(request, response));
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  });

  test("a token of a new key is accepted after the set was fetched, and no more after the key was withdrawn", async () => {
    const [old, fresh] = [ed25519Pair(), ed25519Pair()];
    let published = [publicJwk(old, "old")];
    listener = (_, response) => response.end(JSON.stringify({ keys: published }));
    const by = new Authenticator({
      keys: [new KeyUrl(url, { now: clock.now })],
      revocations: null,
      now: clock.now,
    });
    const token = (pair: typeof old, kid: string) =>
      tokenOf(pair, { a: "ro" }, { alg: "EdDSA", kid });
    const principal = await by.authenticate(token(old, "old"));
    published = [publicJwk(fresh, "fresh")];
    await expect(by.authenticate(token(fresh, "fresh"))).rejects.toEqual(withCode("AUTH_INVALID"));
    clock.advance(30_000);
    expect(await by.authenticate(token(fresh, "fresh"))).toBeDefined();
    expect(by.isCurrent(principal)).toBe(false);
    await expect(by.authenticate(token(old, "old"))).rejects.toEqual(withCode("AUTH_INVALID"));
  });

  test("keys that lay idle for hours are fetched by the first request, which does not fail", async () => {
    const pair = ed25519Pair();
    listener = (_, response) => response.end(JSON.stringify({ keys: [publicJwk(pair)] }));
    const by = new Authenticator({
      keys: [new KeyUrl(url, { now: clock.now })],
      revocations: null,
      now: clock.now,
    });
    const token = tokenOf(pair, { a: "ro" });
    const principal = await by.authenticate(token);
    clock.advance(5 * 3_600_000);
    await by.requireCurrent(principal);
    expect(by.remembered(token)).toBe(principal);
    clock.advance(5 * 3_600_000);
    expect(await by.authenticate(token)).toBeDefined();
  });

  test("a redirection is not followed, and silence has an end", async () => {
    const paths: (string | undefined)[] = [];
    listener = (request, response) => {
      paths.push(request.url);
      response.writeHead(302, { location: "/elsewhere" }).end();
    };
    const source = new KeyUrl(url, { now: clock.now, onProblem });
    await source.refresh();
    expect(paths).toEqual(["/jwks"]);
    expect(problems).toHaveLength(1);
    listener = () => {};
    const silent = new KeyUrl(url, { now: clock.now, timeoutMs: 1, onProblem });
    await silent.refresh();
    expect(problems[1]).toMatchObject({ cause: { name: "TimeoutError" } });
  });
});
