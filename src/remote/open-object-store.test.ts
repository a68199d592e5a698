import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { StoreError } from "../errors.ts";
import { openObjectStore } from "./open-object-store.ts";

function problem(url: string, options = {}): string {
  try {
    openObjectStore(url, options);
  } catch (error) {
    if (error instanceof StoreError && error.code === "REMOTE_URL_INVALID") return error.message;
    throw error;
  }
  throw new Error(`"${url}" was opened`);
}

describe("openObjectStore", () => {
  beforeEach(() => {
    vi.stubEnv("AWS_ENDPOINT_URL_S3", undefined);
    vi.stubEnv("AWS_ENDPOINT_URL", undefined);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test.each([
    ["s3://bucket", "s3://bucket"],
    ["s3://bucket/", "s3://bucket"],
    ["s3://bucket/a/b/", "s3://bucket/a/b"],
    ["s3://bucket/a?endpoint=http://127.0.0.1:9000&region=eu-central-1", "s3://bucket/a"],
    ["s3://my.bucket_1/a?forcePathStyle=false&checksum=none", "s3://my.bucket_1/a"],
    ["file:///var/backups/shop/", "file:///var/backups/shop"],
    ["file:///a%20b", "file:///a%20b"],
  ])("opens %s", (url, description) => {
    expect(openObjectStore(url).description).toBe(description);
  });

  test.each([
    ["", 'neither "s3://bucket/prefix" nor "file:///path"'],
    ["/var/backups", "neither"],
    ["shop", "neither"],
    ["https://bucket.s3.amazonaws.com/x", "neither"],
    ["gs://bucket/x", "neither"],
    ["s3:///x", "no bucket"],
    ["s3://bucket:9000/x", "a bucket has no port"],
    [
      "s3://bucket/x?acl=public",
      'no parameter "acl"; there are endpoint, region, forcePathStyle, checksum',
    ],
    ["s3://bucket/x?endpoint=127.0.0.1", "its endpoint is not"],
    ["s3://bucket/x?endpoint=ftp://host", "its endpoint is not"],
    ["s3://bucket/x?forcePathStyle=yes", 'forcePathStyle is neither "true" nor "false"'],
    ["s3://bucket/x?checksum=md5", "checksum is neither"],
    ["s3://bucket/a//b", "cannot be the beginning of a key"],
    ["s3://bucket/.a", "cannot be the beginning of a key"],
    ["s3://bucket/%ff", "cannot be the beginning of a key"],
    ["file://server/share", "names no directory of this machine"],
    ["file:///a?x=1", "a directory has no parameters"],
  ])("refuses %j", (url, facts) => {
    expect(problem(url)).toContain(facts);
  });

  test("no message holds what may be secret", () => {
    for (const url of [
      "s3://AKIAKEY:hidden@bucket/x",
      "https://AKIAKEY:hidden@bucket/x?token=hidden",
      "s3 ://AKIAKEY:hidden@bucket/x",
      "s3://bucket/x?secret=hidden",
      "s3://bucket/x?endpoint=http://AKIAKEY:hidden@host",
    ])
      expect(problem(url)).not.toMatch(/AKIAKEY|hidden/);
  });

  test("the environment names the endpoint, that of S3 before that of all services", () => {
    vi.stubEnv("AWS_ENDPOINT_URL", "nonsense");
    expect(problem("s3://bucket")).toContain("its endpoint is not");
    vi.stubEnv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    expect(openObjectStore("s3://bucket").description).toBe("s3://bucket");
    expect(openObjectStore("s3://bucket?endpoint=http://other").description).toBe("s3://bucket");
  });

  test("options survive structured cloning", () => {
    const options = {
      endpoint: "http://127.0.0.1:1",
      region: "us-east-1",
      credentials: { accessKeyId: "a", secretAccessKey: "b" },
      retry: { attemptsMax: 3 },
    };
    expect(structuredClone(options)).toEqual(options);
    expect(openObjectStore("s3://bucket", structuredClone(options)).description).toBe(
      "s3://bucket",
    );
  });
});
