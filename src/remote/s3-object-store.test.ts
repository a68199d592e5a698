import fs from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";

import { StoreError } from "../errors.ts";
import { describeObjectStore } from "../testing/object-store-conformance.ts";
import { Random } from "../testing/random.ts";
import { s3Server } from "../testing/s3-server.ts";
import type { ObjectStore } from "./object-store.ts";
import { type ObjectStoreOptions, openObjectStore } from "./open-object-store.ts";

const server = await s3Server();

describe.skipIf(server === null)("A real S3 server", () => {
  for (const checksum of ["crc64nvme", "none"] as const) {
    describeObjectStore(
      `S3 with checksum "${checksum}"`,
      () => {
        const { url, options } = server!.newPlace();
        return {
          open: () => openObjectStore(url, { ...options, checksum }),
          cleanUp: () => undefined,
        };
      },
      { pageSize: checksum === "none" ? 30 : 1000 },
    );
  }

  test("a body that goes up in parts comes back whole, in ranges across the parts, with its etag", async () => {
    const { url, options } = server!.newPlace();
    const store = openObjectStore(url, options);
    const body = new Random(3).bytes(64 * 1024);
    const large = new Uint8Array(17 * 1024 * 1024 + 1);
    for (let offset = 0; offset < large.byteLength; offset += 1_000_003)
      large.set(body.subarray(0, Math.min(body.byteLength, large.byteLength - offset)), offset);
    const { etag } = await store.put("large", large);
    const whole = await store.get("large");
    expect(whole?.etag).toBe(etag);
    expect(Buffer.compare(whole?.body ?? body, large)).toBe(0);
    const range = { offset: 8 * 1024 * 1024 - 5, length: 10 };
    const part = await store.get("large", { range });
    expect(part?.body).toEqual(large.subarray(range.offset, range.offset + range.length));
    await store.put("large", large.subarray(0, 3), { condition: { etag } });
    expect((await store.get("large"))?.body).toEqual(large.subarray(0, 3));
    store.close();
  });

  test("wrong keys are REMOTE_DENIED, a missing bucket is REMOTE_NOT_FOUND, and no message holds a key", async () => {
    const { url, options } = server!.newPlace();
    const credentials = { ...server!.credentials, secretAccessKey: "another-secret" };
    const stranger = openObjectStore(url, { ...options, credentials });
    for (const call of threeCalls(stranger)) {
      const error = await failure(call());
      expect(error.code).toBe("REMOTE_DENIED");
      const shown = JSON.stringify([error.message, error.details, String(error.cause)]);
      expect(shown).not.toContain("another-secret");
      expect(shown).not.toContain(credentials.accessKeyId);
    }
    const nowhere = openObjectStore(url.replace("bough-test", "bough-none"), options);
    for (const call of threeCalls(nowhere))
      expect((await failure(call())).code).toBe("REMOTE_NOT_FOUND");
  });

  test("a store that is closed says so", async () => {
    const { url, options } = server!.newPlace();
    const store = openObjectStore(url, options);
    await store.put("x", new Uint8Array(1));
    store.close();
    expect((await failure(store.get("x"))).code).toBe("STORE_CLOSED");
  });
});

async function listAll(store: ObjectStore): Promise<number> {
  let count = 0;
  for await (const _ of store.list("")) count++;
  return count;
}

function threeCalls(store: ObjectStore): (() => Promise<unknown>)[] {
  return [() => store.get("x"), () => store.put("x", new Uint8Array(1)), () => listAll(store)];
}

async function failure(call: Promise<unknown>): Promise<StoreError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error("The call succeeded");
}

describe("A server that misbehaves", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });

  type Answer = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

  /** A store on a server that answers its requests one after another with these; the last one again. */
  async function storeOn(
    answers: readonly Answer[],
    options: ObjectStoreOptions = {},
  ): Promise<{
    store: ObjectStore;
    requests: { line: string; headers: IncomingMessage["headers"] }[];
  }> {
    const requests: { line: string; headers: IncomingMessage["headers"] }[] = [];
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const answer = answers[Math.min(requests.length, answers.length - 1)]!;
        requests.push({ line: `${request.method} ${request.url}`, headers: request.headers });
        answer(request, response, Buffer.concat(chunks));
      });
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const store = openObjectStore(`s3://bucket/p?endpoint=http://127.0.0.1:${port}`, {
      credentials: { accessKeyId: "id", secretAccessKey: "secret" },
      region: "us-east-1",
      retry: { pauseMs: 1, attemptsMax: 5 },
      ...options,
    });
    return { store, requests };
  }

  const answer =
    (status: number, code = "", headers: Record<string, string> = {}): Answer =>
    (_, response) => {
      const body = code === "" ? "" : `<Error><Code>${code}</Code><Message>told</Message></Error>`;
      response.writeHead(status, { "content-type": "application/xml", ...headers }).end(body);
    };
  const body =
    (text: string, headers: Record<string, string | number> = {}): Answer =>
    (_, response) => {
      response.writeHead(200, { etag: '"e"', "content-length": text.length, ...headers }).end(text);
    };
  const hangUp: Answer = (request) => request.socket.destroy();
  const cutShort: Answer = (request, response) => {
    response.writeHead(200, { etag: '"e"', "content-length": 100 });
    response.write("half", () => request.socket.destroy());
  };
  const put = answer(200, "", { etag: '"e"' });
  const refuse = answer(412, "PreconditionFailed");

  test("what may pass is repeated: overload, internal errors, lost connections, half an answer", async () => {
    const { store, requests } = await storeOn([
      answer(503, "SlowDown"),
      answer(500, "InternalError"),
      hangUp,
      cutShort,
      body("hello"),
    ]);
    expect(Buffer.from((await store.get("x"))!.body).toString()).toBe("hello");
    expect(requests).toHaveLength(5);
  });

  test("what will not pass is not repeated", async () => {
    for (const [status, code, expected] of [
      [403, "AccessDenied", "REMOTE_DENIED"],
      [400, "ExpiredToken", "REMOTE_DENIED"],
      [400, "InvalidRequest", "REMOTE_DENIED"],
      [501, "NotImplemented", "REMOTE_DENIED"],
      [404, "NoSuchBucket", "REMOTE_NOT_FOUND"],
      [301, "PermanentRedirect", "REMOTE_NOT_FOUND"],
    ] as const) {
      const { store, requests } = await storeOn([answer(status, code)]);
      const error = await failure(store.put("x", Buffer.from("x")));
      expect([code, error.code, error.retryable]).toEqual([code, expected, false]);
      expect(requests).toHaveLength(1);
      expect(error.message).toContain(code);
    }
  });

  test("at the limit of attempts the error says how many there were", async () => {
    const { store, requests } = await storeOn([answer(503, "SlowDown")]);
    const error = await failure(store.put("x", Buffer.from("x")));
    expect(error).toMatchObject({ code: "REMOTE_UNAVAILABLE", retryable: true });
    expect(error.message).toMatch(/"x" in s3:\/\/bucket\/p: .*503 SlowDown.*5 attempts/);
    expect(requests).toHaveLength(5);
  });

  test("a server that never answers costs the time of an attempt each", async () => {
    const { store, requests } = await storeOn([() => undefined], {
      retry: { attemptMs: 30, pauseMs: 1, attemptsMax: 3 },
    });
    const error = await failure(store.get("x"));
    expect(error).toMatchObject({ code: "REMOTE_UNAVAILABLE", retryable: true });
    expect(error.message).toMatch(/no answer within 30 ms .*3 attempts/);
    // One that took that long to be sent did not arrive.
    expect(requests.length).toBeLessThanOrEqual(3);
  });

  test("nobody listening is REMOTE_UNAVAILABLE", async () => {
    const { store } = await storeOn([put], { retry: { attemptsMax: 2, pauseMs: 1 } });
    servers.splice(0).forEach((server) => server.close());
    const error = await failure(store.get("x"));
    expect(error).toMatchObject({ code: "REMOTE_UNAVAILABLE", retryable: true });
    expect(error.message).toContain("ECONNREFUSED");
  });

  test("an aborted request ends at once, also while its body comes", async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const { store, requests } = await storeOn([
      (_, response) => {
        response.writeHead(200, { etag: '"e"', "content-length": 100 });
        response.write("half", () => setImmediate(() => controller.abort(reason)));
      },
    ]);
    await expect(store.get("x", { signal: controller.signal })).rejects.toBe(reason);
    expect(requests).toHaveLength(1);
  });

  test("a body that does not have the checksum of the object is fetched again", async () => {
    // Of "hello": what S3 itself would say.
    const checksum = { "x-amz-checksum-crc64nvme": "M3eFcAZSQlc=" };
    const { store, requests } = await storeOn([body("jello", checksum), body("hello", checksum)]);
    expect(Buffer.from((await store.get("x"))!.body).toString()).toBe("hello");
    expect(requests).toHaveLength(2);
    expect(requests[0]!.headers["x-amz-checksum-mode"]).toBe("ENABLED");
  });

  test("a put carries the CRC-64/NVME of its body, big-endian in base64, unless it is told not to", async () => {
    const { store, requests } = await storeOn([put]);
    await store.put("x", Buffer.from("123456789"));
    expect(requests[0]!.headers["x-amz-checksum-crc64nvme"]).toBe(
      Buffer.from("ae8b14860a799888", "hex").toString("base64"),
    );
    const other = await storeOn([put], { checksum: "none" });
    await other.store.put("x", Buffer.from("123456789"));
    const names = Object.keys(other.requests[0]!.headers);
    expect(names.filter((name) => name.includes("checksum") || name.includes("crc"))).toEqual([]);
  });

  test("deletions carry Content-MD5 and no newer checksum", async () => {
    const { store, requests } = await storeOn([answer(200, "", {})]);
    await store.delete(["a", "b"]);
    const { headers } = requests[0]!;
    expect(headers["content-md5"]).toMatch(/^[\w+/]{22}==$/);
    expect(Object.keys(headers).filter((name) => name.includes("checksum"))).toEqual([]);
  });

  test("a lost answer of a conditional put is found out by reading", async () => {
    const created = await storeOn([hangUp, answer(412, "PreconditionFailed"), body("mine")]);
    const mine = await created.store.put("x", Buffer.from("mine"), { condition: { absent: true } });
    expect(mine).toEqual({ etag: '"e"' });
    expect(created.requests.map(({ line }) => line.split(" ")[0])).toEqual(["PUT", "PUT", "GET"]);
    const lost = await storeOn([hangUp, answer(412, "PreconditionFailed"), body("theirs")]);
    const put = lost.store.put("x", Buffer.from("mine"), { condition: { absent: true } });
    expect((await failure(put)).code).toBe("CONDITION_FAILED");
  });

  test("a conditional put that fails at once is not taken for one's own", async () => {
    const { store, requests } = await storeOn([answer(412, "PreconditionFailed"), body("mine")]);
    const put = store.put("x", Buffer.from("mine"), { condition: { absent: true } });
    expect((await failure(put)).code).toBe("CONDITION_FAILED");
    expect(requests).toHaveLength(1);
  });

  test("a list is repeated when a page is cut or cannot be read, and yields no key twice", async () => {
    const page = (keys: string[], token?: string): Answer => {
      const contents = keys.map(
        (key) =>
          `<Contents><Key>p/${key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`,
      );
      const next =
        token === undefined ? "" : `<NextContinuationToken>${token}</NextContinuationToken>`;
      const text = `<ListBucketResult><IsTruncated>${token !== undefined}</IsTruncated>${next}${contents.join("")}</ListBucketResult>`;
      return (_, response) =>
        response.writeHead(200, { "content-type": "application/xml" }).end(text);
    };
    const { store, requests } = await storeOn([
      page(["a", "b"], "t1"),
      cutShort,
      page(["c"], "t2"),
      body("<ListBucketResult><IsTrunc"),
      page(["d"]),
    ]);
    const keys: string[] = [];
    for await (const { key } of store.list("")) keys.push(key);
    expect(keys).toEqual(["a", "b", "c", "d"]);
    expect(requests.map(({ line }) => /start-after=([^&]*)/.exec(line)?.[1])).toEqual([
      undefined,
      undefined,
      "p%2Fb",
      "p%2Fb",
      "p%2Fc",
    ]);
    expect(requests[1]!.line).toContain("continuation-token=t1");
  });

  test("a deletion of many that fails for some is repeated; one that is denied is not", async () => {
    const result = (code: string): Answer =>
      body(`<DeleteResult><Error><Key>p/b</Key><Code>${code}</Code></Error></DeleteResult>`);
    const passing = await storeOn([result("InternalError"), result("NoSuchKey")]);
    await passing.store.delete(["a", "b"]);
    expect(passing.requests).toHaveLength(2);
    const denied = await storeOn([result("AccessDenied")]);
    expect((await failure(denied.store.delete(["a", "b"]))).code).toBe("REMOTE_DENIED");
    expect(denied.requests).toHaveLength(1);
  });

  test("a clock that is wrong is set right by the answer that says so", async () => {
    const wrong = answer(403, "RequestTimeTooSkewed", { date: "Sat, 01 Jan 2022 12:00:00 GMT" });
    const { store, requests } = await storeOn([wrong, put]);
    await store.put("x", Buffer.from("x"));
    expect(requests[1]!.headers["x-amz-date"]).toMatch(/^20220101T12/);
  });

  test("without credentials, or a region, the error says what to set", async () => {
    const home = fs.mkdtempSync(join(tmpdir(), "bough-home-"));
    try {
      for (const name of Object.keys(process.env)) {
        if (name.startsWith("AWS_")) vi.stubEnv(name, undefined);
      }
      vi.stubEnv("HOME", home);
      vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
      const retry = { attemptsMax: 1 };
      const nobody = openObjectStore("s3://bucket?endpoint=http://127.0.0.1:1", { retry });
      const denied = await failure(nobody.get("x"));
      expect([denied.code, denied.retryable]).toEqual(["REMOTE_DENIED", false]);
      expect(denied.message).toContain("set AWS_ACCESS_KEY_ID");
      const credentials = { accessKeyId: "id", secretAccessKey: "secret" };
      const nowhere = await failure(
        openObjectStore("s3://bucket", { credentials, retry }).get("x"),
      );
      expect(nowhere.code).toBe("REMOTE_URL_INVALID");
      expect(nowhere.message).toContain("set AWS_REGION");
    } finally {
      vi.unstubAllEnvs();
      fs.rmSync(home, { recursive: true });
    }
  });

  test("two conditional puts in each other's way (409) are repeated", async () => {
    const { store, requests } = await storeOn([
      answer(409, "ConditionalRequestConflict"),
      put,
      refuse,
    ]);
    await store.put("x", Buffer.from("x"), { condition: { absent: true } });
    expect(requests).toHaveLength(3);
  });

  test("V3: a service that ignores conditions is found out by the first put that has one", async () => {
    for (const condition of [{ absent: true }, { etag: '"old"' }] as const) {
      const bad = await storeOn([put]);
      const error = await failure(bad.store.put("x", Buffer.from("x"), { condition }));
      expect([error.code, error.retryable]).toEqual(["REMOTE_DENIED", false]);
      expect(error.message).toMatch(/the service ignores "If-(None-)?Match"/);
      const good = await storeOn([put, refuse, put]);
      await good.store.put("x", Buffer.from("x"), { condition });
      await good.store.put("x", Buffer.from("x"), { condition });
      expect(good.requests).toHaveLength(3);
    }
  });

  test("etags go out without quotes only to a service that refuses its own with them", async () => {
    const head = answer(200, "", { etag: '"e"' });
    const other = answer(200, "", { etag: '"f"' });
    const ceph = await storeOn([refuse, head, other, refuse, put]);
    await ceph.store.put("x", Buffer.from("1"), { condition: { etag: '"e"' } });
    await ceph.store.put("x", Buffer.from("2"), { condition: { etag: '"e"' } });
    expect(
      ceph.requests.map(({ line, headers }) => [line.split(" ")[0], headers["if-match"]]),
    ).toEqual([
      ["PUT", '"e"'],
      ["HEAD", undefined],
      ["PUT", "e"],
      ["PUT", "e"],
      ["PUT", "e"],
    ]);
    const strict = await storeOn([
      answer(412, "PreconditionFailed"),
      answer(200, "", { etag: '"f"' }),
    ]);
    const stale = strict.store.put("x", Buffer.from("1"), { condition: { etag: '"e"' } });
    expect((await failure(stale)).code).toBe("CONDITION_FAILED");
    expect(strict.requests).toHaveLength(2);
  });

  test("an upload in parts that fails deletes its parts", async () => {
    const create: Answer = (_, response) => {
      response
        .writeHead(200, { "content-type": "application/xml" })
        .end(
          "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
        );
    };
    const { store, requests } = await storeOn([
      create,
      (request, response, bytes) =>
        request.method === "DELETE"
          ? answer(204)(request, response, bytes)
          : answer(403, "AccessDenied")(request, response, bytes),
    ]);
    const error = await failure(store.put("x", new Uint8Array(16 * 1024 * 1024 + 1)));
    expect(error.code).toBe("REMOTE_DENIED");
    expect(requests.at(-1)!.line).toMatch(/^DELETE .*uploadId=u1/);
  });
});
