import { createHash } from "node:crypto";
import { Readable } from "node:stream";

import type { DeleteObjectsCommand, S3Client, S3ClientConfig } from "@aws-sdk/client-s3";
import { Crc64, CRC64_SIZE } from "../storage/crc64.ts";

type S3Module = typeof import("@aws-sdk/client-s3");

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface S3Settings {
  /** As messages name the place; holds no credentials. */
  readonly description: string;
  readonly bucket: string;
  /** "" or a path that ends in "/". */
  readonly prefix: string;
  /** Null: Amazon's own. */
  readonly endpoint: string | null;
  /** Null: from the profile. */
  readonly region: string | null;
  readonly forcePathStyle: boolean;
  /** Null: from where AWS clients look. */
  readonly credentials: S3Credentials | null;
  readonly checksum: "crc64nvme" | "none";
}

/** The client and its commands, loaded when the first request is made: loading takes longer than many a whole command. */
export interface LoadedS3 {
  readonly sdk: S3Module;
  readonly client: S3Client;
}

const CONNECTIONS_MAX = 64;
const CONNECT_MS = 5_000;

export async function loadS3(settings: S3Settings): Promise<LoadedS3> {
  // The client tells users of Node 20 to upgrade, on stderr: that is for bough to say, not for them to act on.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  const sdk = await import("@aws-sdk/client-s3");
  const { endpoint, region, credentials } = settings;
  const config: S3ClientConfig = {
    forcePathStyle: settings.forcePathStyle,
    // retry.ts repeats, nobody else.
    maxAttempts: 1,
    // Checksums are bough's own (B4). What the client does by itself, many services do not know.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      httpAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
      httpsAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
    },
    ...(endpoint === null ? {} : { endpoint }),
    ...(region === null ? {} : { region }),
    ...(credentials === null ? {} : { credentials }),
  };
  return { sdk, client: new sdk.S3Client(config) };
}

/** As S3 writes it: 8 bytes, big-endian, in base64. */
export function crc64Base64(bytes: Uint8Array): string {
  const crc = new Uint8Array(CRC64_SIZE);
  new Crc64().update(bytes).digestInto(crc, 0);
  return Buffer.from(crc.reverse()).toString("base64");
}

/** The whole body of an answer; null when it is not `length` bytes. Throws what the connection throws. */
export async function readBody(
  body: unknown,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | null> {
  if (!(body instanceof Readable)) return null;
  const onAbort = (): void => {
    body.destroy(new Error("aborted"));
  };
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener("abort", onAbort);
  try {
    const bytes = new Uint8Array(length);
    let count = 0;
    for await (const chunk of body) {
      if (!(chunk instanceof Uint8Array) || count + chunk.byteLength > length) return null;
      bytes.set(chunk, count);
      count += chunk.byteLength;
    }
    return count === length ? bytes : null;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

interface RequestWithBody {
  headers: Record<string, string>;
  body: string | Uint8Array;
}

function isRequestWithBody(value: unknown): value is RequestWithBody {
  if (typeof value !== "object" || value === null) return false;
  if (!("headers" in value && "body" in value)) return false;
  return typeof value.body === "string" || value.body instanceof Uint8Array;
}

/**
 * Deletes of many must carry a checksum. The client sends CRC-32 nowadays, which services older than that do not know;
 * Content-MD5 they all take.
 */
export function sendContentMd5(command: DeleteObjectsCommand): void {
  command.middlewareStack.add(
    (next) => async (args) => {
      const request: unknown = args.request;
      if (isRequestWithBody(request)) {
        for (const name of Object.keys(request.headers)) {
          if (/^x-amz-(sdk-)?checksum-/i.test(name)) delete request.headers[name];
        }
        request.headers["content-md5"] = createHash("md5").update(request.body).digest("base64");
      }
      return next(args);
    },
    { step: "build", priority: "low", name: "boughContentMd5" },
  );
}

/** Asks for the checksum that was put, without the client's own check of it, which is in JavaScript and slow. */
export function askForChecksum(command: InstanceType<S3Module["GetObjectCommand"]>): void {
  command.middlewareStack.add(
    (next) => async (args) => {
      const request: unknown = args.request;
      if (typeof request === "object" && request !== null && "headers" in request)
        Object.assign(request.headers ?? {}, { "x-amz-checksum-mode": "ENABLED" });
      return next(args);
    },
    { step: "build", priority: "low", name: "boughChecksumMode" },
  );
}
