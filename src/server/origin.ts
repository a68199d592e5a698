/**
 * What keeps web pages away from a server without authentication. A page that somebody on this machine looks at can send requests
 * here, and by a name of its own that leads to this address (DNS rebinding) it could read the answers too.
 *
 * X1. Without authentication, a request that says it comes from a page is served only if that page is on this machine, or allowed.
 * X2. Without authentication, a request is served only under an address, "localhost" and names below it, or a name of the settings.
 */
import { isIP } from "node:net";
import { StoreError } from "../errors.ts";
import { hostName } from "./route.ts";

export interface OriginOptions {
  readonly host: string;
  readonly domain: readonly string[];
  readonly allowOrigin: readonly string[];
}

/** Throws HOST_REFUSED or ORIGIN_REFUSED. */
export function checkOrigin(
  { host, origin }: { readonly host: string | undefined; readonly origin: string | undefined },
  options: OriginOptions,
): void {
  if (host !== undefined && !isOwnHost(hostName(host), options))
    throw new StoreError(
      "HOST_REFUSED",
      `Cannot serve "${host}" without authentication: that is not a name of this server`,
    );
  if (origin === undefined || isAllowedOrigin(origin, options)) return;
  throw new StoreError(
    "ORIGIN_REFUSED",
    `Cannot serve pages of "${origin}" without authentication: that origin is not allowed`,
  );
}

export function isAllowedOrigin(origin: string, { allowOrigin }: OriginOptions): boolean {
  if (allowOrigin.includes(origin) || allowOrigin.includes("*")) return true;
  return URL.canParse(origin) && isLocalName(new URL(origin).hostname);
}

function isOwnHost(name: string, { host, domain }: OriginOptions): boolean {
  if (isLocalName(name) || name === host.toLowerCase() || isAddress(name)) return true;
  return domain.some((each) => {
    const own = each.toLowerCase();
    return name === own || name.endsWith(`.${own}`);
  });
}

function isLocalName(name: string): boolean {
  return name === "localhost" || name.endsWith(".localhost") || isLoopback(name);
}

/** IPv6 with or without brackets. */
export function isLoopback(address: string): boolean {
  const bare = bareAddress(address);
  return bare === "::1" || (isIP(bare) === 4 && bare.startsWith("127."));
}

function isAddress(name: string): boolean {
  return isIP(bareAddress(name)) !== 0;
}

function bareAddress(address: string): string {
  return address.replace(/^\[(.*)\]$/, "$1");
}
