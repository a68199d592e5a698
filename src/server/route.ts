/**
 * From the URL of a request to what it asks for. What a URL names is found in this order:
 *
 *   1 path       /shop/  /shop/feature/auth/  /shop@120/  /shop/dev@2026-11-20T10:00:00Z/
 *   2 header     x-namespace: shop/feature/auth
 *   3 host       shop.localhost  feature-auth--shop.localhost  and below the names in `domain`
 *   4 default    the default database
 *
 *   path    = "/" [ revision "/" ] [ call ]
 *   call    = "v2" | "v3" | "v2/pipeline" | "v3/pipeline" | "v3/cursor" | "v1/execute" | "v1/batch"
 *
 * U1. Every path has one reading: the call is what it ends with, whatever stands before is the revision.
 * U2. A first part of RESERVED never names a database. A database of such a name is reached by header, host or default.
 */
import { parseRevision } from "../branch/revision.ts";
import { StoreError } from "../errors.ts";

export type HranaCall =
  /** The URL itself: a WebSocket, the oldest API, or a question who is there. */
  "root" | "v2" | "v3" | "v2/pipeline" | "v3/pipeline" | "v3/cursor" | "v1/execute" | "v1/batch";

export type Route =
  | { readonly kind: "hrana"; readonly call: HranaCall; readonly revision: string }
  | { readonly kind: "api" }
  | { readonly kind: "metrics" }
  /** Reserved, and nothing is there. */
  | { readonly kind: "none" };

export interface RouteRequest {
  /** Path and query, as HTTP has them. */
  readonly url: string;
  readonly host: string | undefined;
  readonly namespace: string | undefined;
}

export interface RouteOptions {
  readonly defaultDatabase: string;
  readonly domain: readonly string[];
}

/** U2. Those without a meaning yet are kept for later. */
export const RESERVED: ReadonlySet<string> = new Set([
  "api",
  "console",
  "health",
  "metrics",
  "ready",
  "v1",
  "v2",
  "v3",
  "v3-protobuf",
  "version",
]);

const CALLS: readonly Exclude<HranaCall, "root">[] = [
  "v2/pipeline",
  "v3/pipeline",
  "v3/cursor",
  "v1/execute",
  "v1/batch",
  "v2",
  "v3",
];
const KNOWN_MAX = 1000;

export class Router {
  readonly #options: RouteOptions;
  /** Clients ask the same URL again and again. */
  readonly #known: Map<string, Route> = new Map();

  constructor(options: RouteOptions) {
    this.#options = options;
  }

  /** Throws REVISION_INVALID, NAME_INVALID or REQUEST_INVALID. */
  route(request: RouteRequest): Route {
    const { url, host = "", namespace = "" } = request;
    const key = `${url}\n${host}\n${namespace}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const route = this.#read(request);
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.set(key, route);
    return route;
  }

  #read({ url, host, namespace }: RouteRequest): Route {
    const path = decodePath(url);
    const call = CALLS.find((each) => path === each || path.endsWith(`/${each}`)) ?? "root";
    const place = call === "root" ? path : path.slice(0, path.length - call.length);
    const named = place.replace(/\/+$/, "");
    const [first = ""] = named.split("/", 1);
    if (first === "api") return { kind: "api" };
    if (named === "metrics") return { kind: "metrics" };
    if (RESERVED.has(first)) return { kind: "none" };
    const revision = [named, namespace ?? "", this.#fromHost(host ?? "")].find(
      (text) => text !== "",
    );
    parseRevision(revision ?? this.#options.defaultDatabase);
    return { kind: "hrana", call, revision: revision ?? this.#options.defaultDatabase };
  }

  /** "" when the host names nothing. */
  #fromHost(host: string): string {
    const name = hostName(host);
    const domain = ["localhost", ...this.#options.domain].find((each) =>
      name.endsWith(`.${each.toLowerCase()}`),
    );
    if (domain === undefined) return "";
    const label = name.slice(0, -domain.length - 1);
    const dashes = label.lastIndexOf("--");
    return dashes <= 0 ? label : `${label.slice(dashes + 2)}/${label.slice(0, dashes)}`;
  }
}

/** Without the port. */
export function hostName(host: string): string {
  return host.replace(/:[0-9]*$/, "").toLowerCase();
}

function decodePath(url: string): string {
  const [path = ""] = url.split(/[?#]/, 1);
  try {
    return decodeURIComponent(path).replace(/^\/+/, "");
  } catch {
    throw new StoreError("REQUEST_INVALID", "Cannot read the URL: its path is not encoded right");
  }
}
