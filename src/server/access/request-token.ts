/**
 * Where a request has its token.
 *
 * T1. HTTP: "Authorization: Bearer TOKEN". The scheme may be written in any case. An empty token is none: that is what clients send that were
 *     configured with an empty one.
 * T2. WebSocket: "jwt" of the hello, which counts; when it has none, the header of the request that opened the socket.
 * T3. Never the URL: those are written to logs and histories. "?authToken=" in the address given to a libSQL client is taken out by the client and
 *     sent as T1 or T2 say; one that arrives in a URL is refused, so that it is noticed.
 */
import { authInvalid } from "./refusal.ts";

export interface RequestWithToken {
  /** The header "authorization". */
  readonly authorization: string | undefined;
  /** The request's target, such as "/shop/?a=b". */
  readonly url: string;
}

/** Null when there is none. Throws AUTH_INVALID for one that is not where it should be. */
export function tokenOfRequest({ authorization, url }: RequestWithToken): string | null {
  if (/[?&](?:authToken|jwt|access_token)=/i.test(url))
    throw authInvalid("url", "it stands in the URL; send it in the header Authorization");
  if (authorization === undefined) return null;
  const match = /^([^ ]+)(?: +(.*))?$/s.exec(authorization.trim());
  const [, scheme, token] = match ?? [];
  if (scheme === undefined) return null;
  if (scheme.toLowerCase() !== "bearer")
    throw authInvalid("scheme", 'the header Authorization has no "Bearer TOKEN"');
  return token === undefined || token === "" ? null : token;
}

/** `upgrade` is the request that opened the socket, `jwt` as the hello has it. As `tokenOfRequest`. */
export function tokenOfHello(hello: {
  readonly jwt: unknown;
  readonly upgrade: RequestWithToken;
}): string | null {
  const { jwt, upgrade } = hello;
  if (jwt === undefined || jwt === null || jwt === "") return tokenOfRequest(upgrade);
  if (typeof jwt === "string") return jwt;
  throw authInvalid("malformed", 'the "jwt" of the hello is no string');
}
