import { fileURLToPath } from "node:url";

import { StoreError } from "../errors.ts";
import { DirectoryObjectStore } from "./directory-object-store.ts";
import { checkObjectKey } from "./object-key.ts";
import type { ObjectStore } from "./object-store.ts";
import type { RetryLimits } from "./retry.ts";
import { RetryingObjectStore } from "./retrying-object-store.ts";
import { S3ObjectStore } from "./s3-object-store.ts";
import type { S3Credentials } from "./s3-client.ts";

/** Survives structured cloning, so that a worker thread can open the same. What the URL says comes first. */
export interface ObjectStoreOptions {
  /** Of an S3-compatible service. Else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, then Amazon's. */
  readonly endpoint?: string;
  /** Else AWS_REGION or the profile; "us-east-1" where an endpoint is given and these are not. */
  readonly region?: string;
  /** "http://host/bucket/key" instead of "http://bucket.host/key". By default where an endpoint is given. */
  readonly forcePathStyle?: boolean;
  /** Else where AWS clients look: environment, profile, role. */
  readonly credentials?: S3Credentials;
  /** What the service is asked to verify; "none" for services that refuse a checksum that they do not know. */
  readonly checksum?: "crc64nvme" | "none";
  readonly retry?: RetryLimits;
}

const PARAMETERS: ReadonlySet<string> = new Set([
  "endpoint",
  "region",
  "forcePathStyle",
  "checksum",
]);

/**
 * Opens "s3://bucket/prefix?endpoint=...&region=...&forcePathStyle=...&checksum=..." or "file:///path". Nothing is asked of the
 * service until the first call. Throws REMOTE_URL_INVALID for anything else.
 */
export function openObjectStore(url: string, options: ObjectStoreOptions = {}): ObjectStore {
  return new RetryingObjectStore(openOnce(url, options), options.retry);
}

function openOnce(url: string, options: ObjectStoreOptions): ObjectStore {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed?.protocol === "file:") return openDirectory(parsed);
  if (parsed?.protocol === "s3:") return openBucket(parsed, options);
  throw invalid(
    withoutSecrets(parsed, url),
    'it is neither "s3://bucket/prefix" nor "file:///path"',
  );
}

function openDirectory(url: URL): ObjectStore {
  const description = withoutSecrets(url, "");
  if (url.search !== "" || url.hash !== "")
    throw invalid(description, "a directory has no parameters; write ? and # as %3F and %23");
  try {
    return new DirectoryObjectStore(fileURLToPath(url), description);
  } catch {
    throw invalid(description, 'it names no directory of this machine; write "file:///path"');
  }
}

function openBucket(url: URL, options: ObjectStoreOptions): ObjectStore {
  const description = withoutSecrets(url, "");
  if (url.username !== "" || url.password !== "")
    throw invalid(
      description,
      "credentials do not belong into it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    );
  if (url.hostname === "") throw invalid(description, "it names no bucket");
  if (url.port !== "")
    throw invalid(
      description,
      'a bucket has no port; write "s3://bucket/prefix?endpoint=http://host:port"',
    );
  const unknown = [...url.searchParams.keys()].find((name) => !PARAMETERS.has(name));
  if (unknown !== undefined)
    throw invalid(
      description,
      `there is no parameter "${unknown}"; there are ${[...PARAMETERS].join(", ")}`,
    );
  const settings = { ...options, ...settingsOf(url, description) };
  const endpoint = endpointOf(settings.endpoint, description);
  return new S3ObjectStore({
    description,
    bucket: url.hostname,
    prefix: prefixOf(url, description),
    endpoint,
    region: settings.region ?? defaultRegion(endpoint),
    forcePathStyle: settings.forcePathStyle ?? endpoint !== null,
    credentials: settings.credentials ?? null,
    checksum: settings.checksum ?? "crc64nvme",
    retry: settings.retry ?? {},
  });
}

function settingsOf(
  url: URL,
  description: string,
): Pick<ObjectStoreOptions, "endpoint" | "region" | "forcePathStyle" | "checksum"> {
  const value = (name: string): string | null => url.searchParams.get(name);
  const endpoint = value("endpoint");
  const region = value("region");
  const pathStyle = value("forcePathStyle");
  const checksum = value("checksum");
  if (pathStyle !== null && pathStyle !== "true" && pathStyle !== "false")
    throw invalid(description, 'forcePathStyle is neither "true" nor "false"');
  if (checksum !== null && checksum !== "crc64nvme" && checksum !== "none")
    throw invalid(description, 'checksum is neither "crc64nvme" nor "none"');
  return {
    ...(endpoint === null ? {} : { endpoint }),
    ...(region === null ? {} : { region }),
    ...(pathStyle === null ? {} : { forcePathStyle: pathStyle === "true" }),
    ...(checksum === null ? {} : { checksum }),
  };
}

/** "" or a path that ends in "/". */
function prefixOf(url: URL, description: string): string {
  let path: string;
  try {
    path = decodeURIComponent(url.pathname).replace(/^\//, "").replace(/\/$/, "");
    if (path !== "") checkObjectKey(path);
  } catch {
    throw invalid(
      description,
      "its path cannot be the beginning of a key; use letters, digits, - and _",
    );
  }
  return path === "" ? "" : `${path}/`;
}

function endpointOf(given: string | undefined, description: string): string | null {
  const endpoint =
    given ?? (process.env["AWS_ENDPOINT_URL_S3"] || process.env["AWS_ENDPOINT_URL"] || null);
  if (endpoint === null) return null;
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol) || url.username !== "")
    throw invalid(description, 'its endpoint is not "https://host" or "http://host:port"');
  return endpoint;
}

/** Null: where AWS clients look. S3-compatible services mostly do not care, but requests are signed for some region. */
function defaultRegion(endpoint: string | null): string | null {
  const configured = process.env["AWS_REGION"] ?? process.env["AWS_DEFAULT_REGION"];
  return configured ?? (endpoint === null ? null : "us-east-1");
}

/** As the user named it, less what may be secret: user, password, parameters. */
function withoutSecrets(url: URL | null, text: string): string {
  if (url === null) return text.replace(/\/\/[^/@]*@/, "//").replace(/[?#].*$/s, "");
  const path = url.pathname.replace(/\/$/, "");
  return `${url.protocol}//${url.host}${path === "" && url.host === "" ? "/" : path}`;
}

function invalid(description: string, facts: string): StoreError {
  return new StoreError(
    "REMOTE_URL_INVALID",
    `Cannot open object storage "${description}": ${facts}`,
  );
}
