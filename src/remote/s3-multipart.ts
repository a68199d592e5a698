import type { CompletedPart, CreateMultipartUploadCommandInput } from "@aws-sdk/client-s3";

import { InvariantError } from "../errors.ts";
import { unavailable } from "./remote-error.ts";
import type { Retry } from "./retry.ts";
import { crc64Base64, type LoadedS3 } from "./s3-client.ts";
import { describeS3Failure, fromS3Error } from "./s3-error.ts";

/** A larger body goes up in parts. */
export const SINGLE_PUT_BYTES_MAX: number = 16 * 1024 * 1024;
const PART_BYTES = 8 * 1024 * 1024;
/** S3 takes 10,000 parts of an object: larger bodies have larger parts. */
const PARTS_MAX = 10_000;
const PARTS_AT_ONCE = 4;
const ABORT_MS = 10_000;

export interface MultipartUpload {
  readonly s3: LoadedS3;
  readonly bucket: string;
  readonly key: string;
  readonly body: Uint8Array;
  readonly withChecksum: boolean;
  /** "put object ...", for messages. */
  readonly action: string;
  /** Of each single request: a part that fails does not cost those that went up. */
  readonly retry: Retry;
  readonly signal: AbortSignal | undefined;
}

/** Returns the etag. After a failure the parts are deleted, as far as the service can still be reached. */
export async function putInParts(upload: MultipartUpload): Promise<string> {
  const { s3, bucket, key, withChecksum } = upload;
  const place = { Bucket: bucket, Key: key };
  const input: CreateMultipartUploadCommandInput = withChecksum
    ? { ...place, ChecksumAlgorithm: "CRC64NVME", ChecksumType: "FULL_OBJECT" }
    : place;
  const created = await request(upload, (abortSignal) =>
    s3.client.send(new s3.sdk.CreateMultipartUploadCommand(input), { abortSignal }),
  );
  const uploadId = created.UploadId;
  if (uploadId === undefined)
    throw unavailable(upload.action, "the service names no upload for its parts");
  try {
    const parts = await putParts(upload, uploadId);
    return await complete(upload, uploadId, parts);
  } catch (error) {
    await abandon(upload, uploadId);
    throw error;
  }
}

async function putParts(upload: MultipartUpload, uploadId: string): Promise<CompletedPart[]> {
  const { body } = upload;
  const partBytes = Math.max(PART_BYTES, Math.ceil(body.byteLength / PARTS_MAX));
  const count = Math.ceil(body.byteLength / partBytes);
  const parts: CompletedPart[] = [];
  const failed = new AbortController();
  const signals = upload.signal === undefined ? [failed.signal] : [failed.signal, upload.signal];
  const rest = { ...upload, signal: AbortSignal.any(signals) };
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      const bytes = body.subarray(index * partBytes, (index + 1) * partBytes);
      parts[index] = await putPart(rest, { uploadId, number: index + 1, bytes });
    }
  };
  const workers = Array.from({ length: PARTS_AT_ONCE }, async () => {
    try {
      await worker();
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  const outcomes = await Promise.allSettled(workers);
  if (failed.signal.aborted) throw failed.signal.reason;
  if (outcomes.some(({ status }) => status === "rejected"))
    throw new InvariantError("A part that failed ends the upload");
  return parts;
}

async function putPart(
  upload: MultipartUpload,
  part: { readonly uploadId: string; readonly number: number; readonly bytes: Uint8Array },
): Promise<CompletedPart> {
  const { s3, bucket, key, withChecksum } = upload;
  const checksum = withChecksum ? { ChecksumCRC64NVME: crc64Base64(part.bytes) } : {};
  const answer = await request(upload, (abortSignal) =>
    s3.client.send(
      new s3.sdk.UploadPartCommand({
        Bucket: bucket,
        Key: key,
        UploadId: part.uploadId,
        PartNumber: part.number,
        Body: part.bytes,
        ...checksum,
      }),
      { abortSignal },
    ),
  );
  return { PartNumber: part.number, ETag: answer.ETag, ...checksum };
}

async function complete(
  upload: MultipartUpload,
  uploadId: string,
  parts: CompletedPart[],
): Promise<string> {
  const { s3, bucket, key, body, withChecksum } = upload;
  const answer = await request(upload, (abortSignal) =>
    s3.client.send(
      new s3.sdk.CompleteMultipartUploadCommand({
        Bucket: bucket,
        Key: key,
        UploadId: uploadId,
        MultipartUpload: { Parts: parts },
        ...(withChecksum
          ? { ChecksumCRC64NVME: crc64Base64(body), ChecksumType: "FULL_OBJECT" }
          : {}),
      }),
      { abortSignal },
    ),
  );
  return answer.ETag || (await etagOf(upload));
}

/** Ceph's gateway does not say it at the end of an upload in parts. */
async function etagOf(upload: MultipartUpload): Promise<string> {
  const { s3, bucket, key, action } = upload;
  const head = await request(upload, (abortSignal) =>
    s3.client.send(new s3.sdk.HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal }),
  );
  if (!head.ETag) throw unavailable(action, "the service answers without an etag");
  return head.ETag;
}

function request<T>(
  upload: MultipartUpload,
  send: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { action, signal, retry } = upload;
  return retry.run({ action, signal }, async (attempt) => {
    try {
      return await send(attempt.signal);
    } catch (error) {
      // Completed by an attempt whose answer was lost, or gone: all of it again leaves the same object.
      if (describeS3Failure(error).name === "NoSuchUpload")
        throw unavailable(action, "the upload of its parts is not there any more", error);
      throw fromS3Error(action, error, attempt.signal);
    }
  });
}

/** What this cannot reach is left to the bucket's own rule for incomplete uploads. */
async function abandon(upload: MultipartUpload, uploadId: string): Promise<void> {
  const { s3, bucket, key } = upload;
  const command = new s3.sdk.AbortMultipartUploadCommand({
    Bucket: bucket,
    Key: key,
    UploadId: uploadId,
  });
  try {
    await s3.client.send(command, { abortSignal: AbortSignal.timeout(ABORT_MS) });
  } catch (error) {
    if (fromS3Error(upload.action, error, undefined) === error) throw error;
  }
}
