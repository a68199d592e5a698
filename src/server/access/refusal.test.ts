import { expect, test } from "vitest";
import { StoreError } from "../../errors.ts";
import {
  authExpired,
  authInvalid,
  authRequired,
  authRevoked,
  authUnavailable,
  httpRefusal,
} from "./refusal.ts";

test("HTTP says each refusal in its own way", () => {
  const status = (error: unknown) => httpRefusal(error)?.status;
  expect(httpRefusal(authRequired())).toEqual({ status: 401, challenge: 'Bearer realm="bough"' });
  for (const error of [authInvalid("signature", "x"), authExpired(0), authRevoked("x")])
    expect(httpRefusal(error)).toEqual({
      status: 401,
      challenge: 'Bearer realm="bough", error="invalid_token"',
    });
  expect(status(new StoreError("FORBIDDEN", "x"))).toBe(403);
  expect(status(authUnavailable("x", null))).toBe(503);
  for (const error of [new StoreError("READ_ONLY", "x"), new Error("AUTH_REQUIRED"), null])
    expect(httpRefusal(error)).toBeNull();
});

test("only what may be different the next time is retryable", () => {
  expect(authUnavailable("x", null).retryable).toBe(true);
  for (const error of [
    authRequired(),
    authInvalid("claims", "x"),
    authExpired(0),
    authRevoked("x"),
  ])
    expect(error.retryable).toBe(false);
});
