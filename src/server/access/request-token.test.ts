import { expect, test } from "vitest";
import { tokenOfHello, tokenOfRequest } from "./request-token.ts";

const url = "/shop/v2/pipeline";

test.each([
  [undefined, null],
  ["", null],
  ["Bearer", null],
  ["Bearer ", null],
  ["Bearer a.b.c", "a.b.c"],
  ["bearer a.b.c", "a.b.c"],
  ["BEARER   a.b.c  ", "a.b.c"],
  ["Bearer a b", "a b"],
])("the header %j has the token %j", (authorization, token) => {
  expect(tokenOfRequest({ authorization, url })).toBe(token);
});

test.each(["Basic YTpi", "a.b.c", "Digest x=y", "Bearer,Bearer a"])(
  "the header %j is refused",
  (authorization) => {
    expect(() => tokenOfRequest({ authorization, url })).toThrow(
      expect.objectContaining({ code: "AUTH_INVALID", details: { reason: "scheme" } }),
    );
  },
);

test("a token in the URL is refused, with or without one in the header", () => {
  for (const target of ["/?authToken=x", "/shop/?a=b&authtoken=x", "/?jwt=x", "/?access_token="])
    for (const authorization of [undefined, "Bearer a.b.c"])
      expect(() => tokenOfRequest({ authorization, url: target }), target).toThrow(
        expect.objectContaining({ code: "AUTH_INVALID", details: { reason: "url" } }),
      );
  expect(tokenOfRequest({ authorization: undefined, url: "/authToken=x?b=authToken" })).toBeNull();
});

test("the token of a hello comes before that of the request that opened the socket", () => {
  const upgrade = { authorization: "Bearer old", url: "/" };
  expect(tokenOfHello({ jwt: "new", upgrade })).toBe("new");
  for (const jwt of [undefined, null, ""]) expect(tokenOfHello({ jwt, upgrade })).toBe("old");
  expect(tokenOfHello({ jwt: null, upgrade: { authorization: undefined, url: "/" } })).toBeNull();
  for (const jwt of [7, {}, ["x"]])
    expect(() => tokenOfHello({ jwt, upgrade })).toThrow(
      expect.objectContaining({ code: "AUTH_INVALID" }),
    );
});
