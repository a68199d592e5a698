/** A server whose keys come from a URL that is down at times. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Access, tokenAccess } from "../src/server/access.ts";
import { Authenticator } from "../src/server/access/authenticator.ts";
import { KeyFile, KeyUrl } from "../src/server/access/key-source.ts";
import { ed25519Pair, publicJwk, tokenOf } from "../src/testing/token-fixture.ts";
import { type Answer, ServedDirectory, sqls } from "./server-fixture.ts";
import { scope, TokenWorld } from "./server-tokens.ts";

const pair = ed25519Pair();
let world: TokenWorld;
let jwks: Server;
let port: number;
let served: ServedDirectory | null;

beforeEach(async () => {
  world = new TokenWorld();
  jwks = createServer((_, response) => {
    response.end(JSON.stringify({ keys: [publicJwk(pair, "published")] }));
  });
  await listen(0);
  served = null;
});
afterEach(async () => {
  await served?.[Symbol.asyncDispose]();
  jwks.close();
  world[Symbol.dispose]();
});

async function listen(wanted: number): Promise<void> {
  jwks.listen(wanted, "127.0.0.1");
  await once(jwks, "listening");
  const address = jwks.address();
  if (address === null || typeof address === "string") throw new Error("It does not listen");
  ({ port } = address);
}

/** The key of the world, from its file, and those of the URL. */
function access(): Access {
  const now = (): number => world.nowMs;
  const keys = [
    new KeyFile(world.file("key.pub.pem"), { now }),
    new KeyUrl(`http://127.0.0.1:${port}/jwks.json`, { now }),
  ];
  return tokenAccess(new Authenticator({ keys, revocations: null, now }));
}

function ask(token: string): Promise<Answer> {
  const headers = { authorization: `Bearer ${token}` };
  return served!.post("/shop/v2/pipeline", sqls("SELECT 1"), headers);
}

test("the keys are fetched before a token needs them", async () => {
  const fetched = once(jwks, "request");
  served = await ServedDirectory.start({}, {}, access());
  await fetched;
});

test("while the URL is down tokens of the file go on working, and others are told when to try again", async () => {
  jwks.close();
  await once(jwks, "close");
  served = await ServedDirectory.start({}, {}, access());
  await served.admin.createDatabase("shop", {});
  const ofFile = await world.token(scope("shop", "**", "ro"));
  const claims = { ...scope("shop", "**", "ro"), exp: Math.floor(world.nowMs / 1000) + 60 };
  const ofUrl = tokenOf(pair, claims, { alg: "EdDSA", kid: "published" });
  expect((await ask(ofFile)).status).toBe(200);
  const refused = await ask(ofUrl);
  expect([refused.status, refused.body]).toEqual([
    503,
    {
      code: "AUTH_UNAVAILABLE",
      message: "Cannot verify tokens now: keys that may have signed it cannot be fetched",
    },
  ]);
  const api = await fetch(`${served.server.url}/api/v1/databases`, {
    headers: { authorization: `Bearer ${ofUrl}` },
  });
  expect(await api.json()).toMatchObject({ code: "AUTH_UNAVAILABLE", retryable: true });
  expect([api.status, api.headers.get("retry-after")]).toEqual([503, "5"]);
  expect((await ask(ofFile)).status).toBe(200);
  await listen(port);
  world.nowMs += 5000;
  expect((await ask(ofUrl)).status).toBe(200);
});
