/**
 * Who asks: the one place where a request gets its principal. What that may do is asked of the principal (access/principal.ts) wherever
 * something is opened.
 *
 * A1. A request without a principal reaches nothing but the answers that say which protocols there are.
 * A2. A principal is asked about again before each piece of work: tokens expire, are revoked, and lose their keys.
 */
import type { Authenticator } from "./access/authenticator.ts";
import { type Principal, UNAUTHENTICATED } from "./access/principal.ts";
import { type RequestWithToken, tokenOfHello, tokenOfRequest } from "./access/request-token.ts";

export type { Principal } from "./access/principal.ts";

/** What came with the request. */
export interface Credentials {
  readonly request: RequestWithToken;
  /** Of a WebSocket, whose upgrade is the request: "jwt" of its hello. */
  readonly hello?: { readonly jwt: string | null };
}

export interface Access {
  /** Anybody may do anything, so that what web pages ask has to be refused by other means (origin.ts). */
  readonly isOpen: boolean;
  /** Throws what the client is to be told when the credentials are not good. */
  authenticate(credentials: Credentials): Principal | Promise<Principal>;
  /** Whether it is as good as when it was authenticated. Never throws. */
  isCurrent(principal: Principal): boolean;
  /** The same after looking for newer keys; rejects with what the client is to be told. */
  requireCurrent(principal: Principal): Promise<void>;
  /** The server has begun: what will be needed may be fetched. */
  prepare?(): void;
}

/** No access control. */
export const OPEN_ACCESS: Access = {
  isOpen: true,
  authenticate: () => UNAUTHENTICATED,
  isCurrent: () => true,
  requireCurrent: () => Promise.resolve(),
};

export function tokenAccess(authenticator: Authenticator): Access {
  return {
    isOpen: false,
    authenticate: ({ request, hello }) => {
      const token =
        hello === undefined
          ? tokenOfRequest(request)
          : tokenOfHello({ jwt: hello.jwt, upgrade: request });
      const known = token === null ? null : authenticator.remembered(token);
      return known ?? authenticator.authenticate(token);
    },
    isCurrent: (principal) => authenticator.isCurrent(principal),
    requireCurrent: (principal) => authenticator.requireCurrent(principal),
    prepare: () => authenticator.prepare(),
  };
}
