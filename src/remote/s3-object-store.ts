/**
 * Object storage on S3 and services like it, through Amazon's own client. One attempt per call (but for parts of
 * large bodies): `retrying-object-store.ts` repeats.
 *
 * V1. A put carries the CRC-64/NVME of its body, which S3 verifies and keeps; a get of a whole object is checked against what was
 *     kept, where the service tells, and each get against the length that the answer promised (B4).
 * V2. A put with a condition is one request: parts are for puts without, since few services know conditions at the end of
 *     an upload in parts.
 * V3. A service that ignores conditions is found out: the first put of a client that met its condition is sent once more, under
 *     the condition that cannot hold any more. But for Amazon's own, which is known to honour them.
 * V4. Nothing that a request is signed with gets into a message or the details of an error.
 */
import type { PutObjectCommandInput } from "@aws-sdk/client-s3";

import { StoreError } from "../errors.ts";
import { checkObjectKey } from "./object-key.ts";
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectStore,
  ObjectVersion,
  PutCondition,
  PutOptions,
  RequestOptions,
  StoredObject,
} from "./object-store.ts";
import { conditionFailed, unavailable } from "./remote-error.ts";
import { Retry, type RetryLimits } from "./retry.ts";
import {
  askForChecksum,
  crc64Base64,
  type LoadedS3,
  loadS3,
  readBody,
  type S3Settings,
  sendContentMd5,
} from "./s3-client.ts";
import { describeS3Failure, fromS3Error, isMissingObject } from "./s3-error.ts";
import { putInParts, SINGLE_PUT_BYTES_MAX } from "./s3-multipart.ts";

/** What one request may delete. */
const DELETE_MAX = 1000;

export interface S3StoreOptions extends S3Settings {
  /** Of the single requests of an upload in parts. */
  readonly retry: RetryLimits;
}

interface HeadRequest {
  readonly input: { readonly Bucket: string | undefined; readonly Key: string | undefined };
  /** "put object ...", for messages. */
  readonly action: string;
  readonly signal: AbortSignal | undefined;
}

interface SinglePut extends HeadRequest {
  readonly input: PutObjectCommandInput;
  readonly condition: PutCondition | undefined;
}

export class S3ObjectStore implements ObjectStore {
  readonly description: string;
  private readonly settings: S3Settings;
  private readonly retry: Retry;
  private loading: Promise<LoadedS3> | null = null;
  private closed = false;
  /** Conditions that the service is known to honour. */
  private readonly trusted: Set<"IfNoneMatch" | "IfMatch">;
  /** Whether the service takes etags as it gives them, as the standard says. */
  private quotesEtags = true;

  constructor(options: S3StoreOptions) {
    this.description = options.description;
    this.settings = options;
    this.retry = new Retry(options.retry);
    this.trusted = new Set(options.endpoint === null ? ["IfNoneMatch", "IfMatch"] : []);
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<ObjectVersion> {
    checkObjectKey(key);
    const { condition, signal } = options;
    const withChecksum = this.settings.checksum === "crc64nvme";
    const place = { Bucket: this.settings.bucket, Key: this.settings.prefix + key };
    return this.attempt(`put object "${key}"`, signal, async (s3, action) => {
      if (condition === undefined && body.byteLength > SINGLE_PUT_BYTES_MAX) {
        const { Bucket: bucket, Key: fullKey } = place;
        const upload = { s3, bucket, key: fullKey, body, withChecksum, action, signal };
        return { etag: await putInParts({ ...upload, retry: this.retry }) };
      }
      const input: PutObjectCommandInput = {
        ...place,
        Body: body,
        ContentLength: body.byteLength,
        ...(withChecksum ? { ChecksumCRC64NVME: crc64Base64(body) } : {}),
      };
      return { etag: await this.putOnce(s3, { input, condition, action, signal }) };
    });
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    checkObjectKey(key);
    const { range, signal } = options;
    return this.attempt(`get object "${key}"`, signal, async (s3, action) => {
      // HTTP has no way to ask for nothing.
      const bytes =
        range === undefined
          ? {}
          : { Range: `bytes=${range.offset}-${range.offset + Math.max(1, range.length) - 1}` };
      const command = new s3.sdk.GetObjectCommand({
        Bucket: this.settings.bucket,
        Key: this.settings.prefix + key,
        ...bytes,
      });
      if (range === undefined && this.settings.checksum === "crc64nvme") askForChecksum(command);
      try {
        const answer = await s3.client.send(command, sending(signal));
        const { ContentLength: length, ETag: etag, ChecksumCRC64NVME: checksum } = answer;
        if (etag === undefined || length === undefined)
          throw unavailable(action, "the service answers without an etag or a length");
        const body = await readBody(answer.Body, length, signal);
        if (body === null)
          throw unavailable(action, `the answer is not the ${length} bytes that it promised`);
        if (range === undefined && checksum !== undefined && crc64Base64(body) !== checksum)
          throw unavailable(action, "the bytes that came do not have the checksum of the object");
        return { body: range === undefined ? body : body.subarray(0, range.length), etag };
      } catch (error) {
        const failure = describeS3Failure(error);
        if (isMissingObject(failure)) return null;
        if (failure.status !== 416) throw error;
        // A range that begins at the end or after it. The answer says no etag.
        const etag = await this.head(s3, { input: command.input, action, signal });
        return etag === null ? null : { body: new Uint8Array(0), etag };
      }
    });
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const { signal, startAfter } = options;
    const before = this.settings.prefix;
    let token: string | undefined;
    do {
      const page = await this.attempt(`list objects "${prefix}"`, signal, (s3) =>
        s3.client.send(
          new s3.sdk.ListObjectsV2Command({
            Bucket: this.settings.bucket,
            Prefix: before + prefix,
            ...(startAfter === undefined ? {} : { StartAfter: before + startAfter }),
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          sending(signal),
        ),
      );
      for (const { Key: key, Size: size, LastModified: modified } of page.Contents ?? []) {
        if (key === undefined || size === undefined || modified === undefined) continue;
        yield { key: key.slice(before.length), size, modifiedMs: modified.getTime() };
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    for (const key of keys) checkObjectKey(key);
    for (let start = 0; start < keys.length; start += DELETE_MAX) {
      const batch = keys.slice(start, start + DELETE_MAX);
      await this.attempt(`delete ${keys.length} objects`, options.signal, async (s3, action) => {
        const objects = batch.map((key) => ({ Key: this.settings.prefix + key }));
        const command = new s3.sdk.DeleteObjectsCommand({
          Bucket: this.settings.bucket,
          Delete: { Objects: objects, Quiet: true },
        });
        sendContentMd5(command);
        const answer = await s3.client.send(command, sending(options.signal));
        throwDeleteError(action, answer.Errors ?? []);
      });
    }
  }

  close(): void {
    this.closed = true;
    this.loading?.then(
      ({ client }) => client.destroy(),
      () => undefined,
    );
  }

  /** Under one condition, in the form that this service understands. */
  private async putOnce(s3: LoadedS3, put: SinglePut): Promise<string> {
    const { input, condition, action, signal } = put;
    const send = async (headers: Partial<PutObjectCommandInput>): Promise<string> => {
      const command = new s3.sdk.PutObjectCommand({ ...input, ...headers });
      const answer = await s3.client.send(command, sending(signal));
      if (!answer.ETag) throw unavailable(action, "the service answers without an etag");
      return answer.ETag;
    };
    if (condition === undefined) return send({});
    if ("absent" in condition) return this.trusting("IfNoneMatch", "*", { action, send });
    try {
      const etag = this.quotesEtags ? condition.etag : unquoted(condition.etag);
      return await this.trusting("IfMatch", etag, { action, send });
    } catch (error) {
      const failure = describeS3Failure(error);
      if (isMissingObject(failure)) throw conditionFailed(action, "it is not there any more");
      if (failure.status !== 412 || !this.quotesEtags) throw error;
      // Ceph's gateway takes etags without their quotes only: then the object is the wanted one all the same.
      const head = await this.head(s3, put);
      if (head !== condition.etag || unquoted(head) === head) throw error;
      const etag = await this.trusting("IfMatch", unquoted(head), { action, send });
      this.quotesEtags = false;
      return etag;
    }
  }

  /** Sends a put with a condition; see V3. */
  private async trusting(
    header: "IfNoneMatch" | "IfMatch",
    value: string,
    put: {
      readonly action: string;
      readonly send: (headers: Partial<PutObjectCommandInput>) => Promise<string>;
    },
  ): Promise<string> {
    const etag = await put.send({ [header]: value });
    // The same bytes again would rightly be taken for what was there.
    const tells = header === "IfNoneMatch" || unquoted(etag) !== unquoted(value);
    if (this.trusted.has(header) || !tells) return etag;
    try {
      await put.send({ [header]: value });
    } catch (error) {
      if (describeS3Failure(error).status !== 412) throw error;
      this.trusted.add(header);
      return etag;
    }
    const name = header === "IfMatch" ? "If-Match" : "If-None-Match";
    throw new StoreError(
      "REMOTE_DENIED",
      `Cannot ${put.action}: the service ignores "${name}", so that two writers would damage each other's work; use one that honours it`,
    );
  }

  /** The etag; null when there is no such object. */
  private async head(s3: LoadedS3, request: HeadRequest): Promise<string | null> {
    const { Bucket, Key } = request.input;
    const command = new s3.sdk.HeadObjectCommand({ Bucket, Key });
    try {
      const head = await s3.client.send(command, sending(request.signal));
      if (!head.ETag) throw unavailable(request.action, "the service answers without an etag");
      return head.ETag;
    } catch (error) {
      if (isMissingObject(describeS3Failure(error))) return null;
      throw error;
    }
  }

  private async attempt<T>(
    action: string,
    signal: AbortSignal | undefined,
    run: (s3: LoadedS3, action: string) => Promise<T>,
  ): Promise<T> {
    const whole = `${action} in ${this.description}`;
    try {
      if (this.closed) throw new StoreError("STORE_CLOSED", `Cannot ${whole}: it is closed`);
      this.loading ??= loadS3(this.settings);
      return await run(await this.loading, whole);
    } catch (error) {
      throw fromS3Error(whole, error, signal);
    }
  }
}

function sending(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

function unquoted(etag: string): string {
  return etag.replace(/^"(.*)"$/, "$1");
}

/** Of a batch some may be deleted and others not. All of them again is right. */
function throwDeleteError(
  action: string,
  errors: readonly { Key?: string | undefined; Code?: string | undefined }[],
): void {
  const failed = errors.filter(({ Code: code }) => code !== "NoSuchKey");
  const [first] = failed;
  if (first === undefined) return;
  const facts = `${failed.length} could not be deleted, the first with "${first.Code ?? "an unknown error"}"`;
  if (first.Code === "AccessDenied")
    throw new StoreError(
      "REMOTE_DENIED",
      `Cannot ${action}: ${facts}; check the policy of the bucket`,
    );
  throw unavailable(action, facts);
}
