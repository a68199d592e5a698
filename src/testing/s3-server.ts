/**
 * A real S3 server for tests. The set-up of the test run (`s3-server-setup.ts`) starts one in the background when a test file of
 * the run imports this one; test files wait here until it serves, each with a place of its own in the bucket.
 */
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { inject } from "vitest";

import type { ObjectStoreOptions } from "../remote/open-object-store.ts";
import { loadS3 } from "../remote/s3-client.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A file that comes to hold an S3ServerState; null when nothing was started. */
    s3ServerFile: string | null;
  }
}

export type S3ServerState = { readonly url: string } | { readonly obstacle: string };

export interface S3Place {
  readonly url: string;
  readonly options: ObjectStoreOptions;
}

export interface S3Server {
  readonly endpoint: string;
  readonly credentials: NonNullable<ObjectStoreOptions["credentials"]>;
  readonly bucket: string;
  /** An empty place in the bucket that nobody else uses. */
  newPlace(): S3Place;
}

const BUCKET = "bough-test";

/**
 * The server, once it serves: to be awaited at the top of a test file, whose tests are then in
 * `describe.skipIf(server === null)`. Null where none can run, which the set-up has said; with CI set that is an error.
 */
export async function s3Server(): Promise<S3Server | null> {
  const state = await serverState();
  if ("obstacle" in state) {
    if (isSet(process.env["CI"])) throw new Error(`Cannot test with S3: ${state.obstacle}`);
    return null;
  }
  const url = new URL(state.url);
  const endpoint = url.origin;
  const credentials = {
    accessKeyId: decodeURIComponent(url.username),
    secretAccessKey: decodeURIComponent(url.password),
  };
  await makeBucket(endpoint, credentials);
  const options = { credentials, region: "us-east-1" };
  return {
    endpoint,
    credentials,
    bucket: BUCKET,
    newPlace: () => ({ url: `s3://${BUCKET}/${randomUUID()}?endpoint=${endpoint}`, options }),
  };
}

/** Given by the environment, or by the set-up, which may take its time: nothing is installed or started here. */
async function serverState(): Promise<S3ServerState> {
  const given = process.env["BOUGH_TEST_S3"];
  if (isSet(given)) return { url: given };
  const file = inject("s3ServerFile");
  if (file === null)
    throw new Error("The set-up of the tests did not see that an S3 server is needed");
  while (!existsSync(file)) await pause(50);
  return JSON.parse(readFileSync(file, "utf8")) as S3ServerState;
}

export function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== "";
}

async function makeBucket(endpoint: string, credentials: S3Server["credentials"]): Promise<void> {
  const { sdk, client } = await loadS3({
    description: `s3://${BUCKET}`,
    bucket: BUCKET,
    prefix: "",
    endpoint,
    region: "us-east-1",
    forcePathStyle: true,
    credentials,
    checksum: "none",
  });
  try {
    await client.send(new sdk.CreateBucketCommand({ Bucket: BUCKET }));
  } catch (error) {
    const there = ["BucketAlreadyOwnedByYou", "BucketAlreadyExists"];
    if (!(error instanceof Error && there.includes(error.name))) throw error;
  } finally {
    client.destroy();
  }
}
