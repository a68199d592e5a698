import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ed25519Pair, publicPem, TestClock, tokenOf } from "../../testing/token-fixture.ts";
import { createKeyFiles, PUBLIC_KEY_FILE } from "./key-files.ts";
import { openAuthenticator } from "./open-authenticator.ts";
import { revokeToken } from "./revocations.ts";

let directory: string;
const at = (name: string) => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-access-"));
});

afterEach(() => rmSync(directory, { recursive: true }));

test("without any key there is no authentication", () => {
  expect(openAuthenticator({ storeDirectory: directory })).toBeNull();
  expect(openAuthenticator({ storeDirectory: null, audience: "x" })).toBeNull();
});

test("the store's own key counts, beside those that are named", async () => {
  const [own, named] = [ed25519Pair(), ed25519Pair()];
  writeFileSync(at(PUBLIC_KEY_FILE), publicPem(own));
  writeFileSync(at("named.pem"), publicPem(named));
  const by = openAuthenticator({ storeDirectory: directory, keyFiles: [at("named.pem")] });
  for (const pair of [own, named]) expect(await by?.authenticate(tokenOf(pair, {}))).toBeDefined();
  await expect(by?.authenticate(tokenOf(ed25519Pair(), {}))).rejects.toMatchObject({
    code: "AUTH_INVALID",
  });
});

test("every setting is heeded", async () => {
  const clock = new TestClock();
  const pair = ed25519Pair();
  writeFileSync(at("key.pem"), publicPem(pair));
  const by = openAuthenticator(
    {
      storeDirectory: directory,
      keyFiles: [at("key.pem")],
      revocationsFile: at("list.json"),
      audience: "a",
      issuer: "i",
      withoutClaims: "rw",
    },
    { now: clock.now },
  );
  const good = { aud: "a", iss: "i", jti: "1", exp: clock.seconds(1) };
  expect((await by?.authenticate(tokenOf(pair, good)))?.scopes).toHaveLength(1);
  for (const bad of [
    { ...good, aud: "b" },
    { ...good, iss: "b" },
  ])
    await expect(by?.authenticate(tokenOf(pair, bad))).rejects.toMatchObject({
      code: "AUTH_INVALID",
    });
  revokeToken(at("list.json"), { id: "1", expiresAtMs: null, nowMs: clock.nowMs });
  clock.advance(1000);
  await expect(by?.authenticate(tokenOf(pair, good))).rejects.toMatchObject({
    code: "AUTH_REVOKED",
  });
});

test("what cannot be used is said at once", () => {
  createKeyFiles(at("key.pem"));
  const open = (settings: object) => () =>
    openAuthenticator({ storeDirectory: directory, keyFiles: [at("key.pub.pem")], ...settings });
  expect(open({})()).not.toBeNull();
  expect(open({ keyFiles: [at("key.pem")] })).toThrow(
    expect.objectContaining({ code: "TOKEN_KEY_INVALID" }),
  );
  expect(open({ keyFiles: [at("none.pem")] })).toThrow(
    expect.objectContaining({ code: "FILE_NOT_FOUND" }),
  );
  expect(open({ jwksUrls: ["http://example.com"] })).toThrow(
    expect.objectContaining({ code: "TOKEN_KEY_INVALID" }),
  );
  writeFileSync(at("revoked-tokens.json"), "broken");
  expect(open({})).toThrow(expect.objectContaining({ code: "AUTH_UNAVAILABLE" }));
});
