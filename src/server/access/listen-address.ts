/**
 * Who can reach a server that asks nobody who they are.
 *
 *   where it listens                                    without authentication
 *   127.0.0.0/8, ::1, ::ffff:127.0.0.0/104              served
 *   localhost                                           served
 *   the path of a Unix socket                           served: its directory's permissions decide
 *   0.0.0.0, ::, nothing given, any other address       refused, unless it is wanted
 *   any other name                                      refused: it may mean any address, tomorrow another
 *
 * A1. What is not recognised as loopback is not. Spellings that some systems take for addresses (127.1, 0x7f.1) are names here.
 */
import { BlockList, isIP } from "node:net";
import { StoreError } from "../../errors.ts";

export type ListenAddress =
  | { readonly kind: "host"; readonly host: string | null }
  | { readonly kind: "socket"; readonly path: string };

export interface ListenRule {
  /** Whether some key or other means of authentication is configured. */
  readonly isAuthenticated: boolean;
  /** The user has said that everybody may come in. */
  readonly isOpenWanted: boolean;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Throws LISTEN_UNPROTECTED. To be asked for what is configured, and again for what the system says the server is bound to. */
export function requireListenAllowed(address: ListenAddress, rule: ListenRule): void {
  if (rule.isAuthenticated || rule.isOpenWanted) return;
  if (address.kind === "socket" || isLoopbackHost(address.host ?? "")) return;
  const shown =
    address.host === null || address.host === "" ? "every address" : `"${address.host}"`;
  throw new StoreError(
    "LISTEN_UNPROTECTED",
    `Cannot listen on ${shown} without authentication: others than this machine could reach it; configure a key for tokens, or listen on "127.0.0.1"`,
    { details: { host: address.host } },
  );
}

/** An address or a name, as in a URL with or without its brackets. */
export function isLoopbackHost(host: string): boolean {
  const bare = /^\[(.*)\]$/.exec(host)?.[1] ?? host;
  const family = isIP(bare);
  // A zone ("::1%lo") says through which interface, which an address of this machine does not need.
  if (family !== 0)
    return !bare.includes("%") && LOOPBACK.check(bare, family === 4 ? "ipv4" : "ipv6");
  return bare.toLowerCase() === "localhost";
}
