/**
 * However the bytes of requests arrive, the answers are the same: bodies in chunks with trailers, requests behind each other on one
 * connection, cut anywhere, messages of a WebSocket in fragments with pings between them. And whatever else arrives, bytes that were
 * changed at random too: the server calls nothing a bug, shows nobody what is another's, and works on. Also over TLS, and with threads.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Random } from "../src/testing/random.ts";
import { fragments, frameBytes, Opcode, RawConnection } from "./raw-connection.ts";
import { ServedDirectory } from "./server-fixture.ts";
import { scope, TokenWorld } from "./server-tokens.ts";
import { SharedThreads } from "./shared-threads.ts";

const LONG = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 11 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const TIMEOUT = LONG ? { timeout: 1_800_000 } : {};
const TLS = join(import.meta.dirname, "fixtures", "tls");
const TENANTS = ["left", "right"] as const;
type Tenant = (typeof TENANTS)[number];

const dataOf = (tenant: Tenant): string => `what ${tenant} has`;

class World implements AsyncDisposable {
  readonly #served: ServedDirectory;
  readonly #tokens: TokenWorld;
  readonly #ca: string | null;
  readonly random: Random;
  readonly tokens: ReadonlyMap<Tenant, string>;

  private constructor(parts: {
    readonly served: ServedDirectory;
    readonly tokens: TokenWorld;
    readonly given: ReadonlyMap<Tenant, string>;
    readonly ca: string | null;
    readonly random: Random;
  }) {
    this.#served = parts.served;
    this.#tokens = parts.tokens;
    this.#ca = parts.ca;
    this.random = parts.random;
    this.tokens = parts.given;
  }

  static async start(kind: Kind, seed: number): Promise<World> {
    const tokens = new TokenWorld();
    const [cert, key] = ["cert", "key"].map((part) => join(TLS, `first.${part}.pem`));
    const served = await ServedDirectory.start(
      {
        requestBytesMax: 256 * 1024,
        ...(kind === "TLS" ? { tlsCert: cert!, tlsKey: key! } : {}),
      },
      {},
      tokens.access(),
      kind === "threads" ? (threads ??= await SharedThreads.open()).store : null,
    );
    const given = new Map<Tenant, string>();
    for (const tenant of TENANTS) {
      await served.admin.createDatabase(tenant, {});
      await served.exec(tenant, `CREATE TABLE t(b); INSERT INTO t VALUES ('${dataOf(tenant)}')`);
      given.set(tenant, await tokens.token(scope(tenant, "*", "rw")));
    }
    const ca = kind === "TLS" ? readFileSync(cert!, "utf8") : null;
    return new World({ served, tokens, given, ca, random: new Random(seed) });
  }

  connect(): Promise<RawConnection> {
    return RawConnection.open(this.#served.server.url, this.#ca);
  }

  /** It still does what it should, and keeps nothing of those who went. */
  async works(): Promise<void> {
    const { server } = this.#served;
    await this.#served.pass(100_000);
    while (server.streams.size > 0 || server.unsentBytes > 0)
      await new Promise((resolve) => setImmediate(resolve));
    const connection = await this.connect();
    const asked = ask({ world: this, id: 1, tenant: "left", token: "left" });
    connection.socket.write(frame(this.random, asked, "plain"));
    expect((await connection.answer())?.body).toContain(`1 ${dataOf("left")}`);
    connection.socket.destroy();
    expect(this.#served.bugs).toEqual([]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#served[Symbol.asyncDispose]();
    this.#tokens[Symbol.dispose]();
  }
}

type Kind = "one thread" | "threads" | "TLS";
let threads: SharedThreads | null = null;

afterAll(async () => {
  await threads?.[Symbol.asyncDispose]();
});

interface Asked {
  readonly path: string;
  readonly token: string;
  readonly body: string;
  /** What is in the right answer. */
  readonly answer: string;
  readonly status: number;
  /** With "Expect: 100-continue". */
  readonly isHeld: boolean;
}

interface AskOptions {
  readonly world: World;
  readonly id: number;
  readonly tenant: Tenant;
  readonly token: Tenant | null;
}

/** A question whose answer is known. */
function ask({ world, id, tenant, token }: AskOptions): Asked {
  const { random } = world;
  // So long that it is cut; with characters of two to four bytes.
  const filler = "é∀😀".repeat(random.pick([0, 1, 50, 3000]));
  const sql = `SELECT '${id} ' || b AS "${filler}" FROM t /* ${filler} */`;
  const body = JSON.stringify({
    requests: [{ type: "execute", stmt: { sql } }, { type: "close" }],
  });
  const isAllowed = tenant === token;
  return {
    path: `/${tenant}/v${random.pick([2, 3])}/pipeline`,
    token: token === null ? "" : world.tokens.get(token)!,
    body,
    answer: isAllowed ? `"${id} ${dataOf(tenant)}"` : '"code":"',
    status: isAllowed ? 200 : token === null ? 401 : 403,
    isHeld: random.chance(0.2),
  };
}

function anyAsked(world: World, id: number): Asked {
  const { random } = world;
  const token = random.pick([...TENANTS, ...TENANTS, null]);
  return ask({ world, id, tenant: random.pick(TENANTS), token });
}

/** The bytes of a request, in one of the many ways to write it. */
function frame(
  random: Random,
  { path, token, body, isHeld }: Asked,
  way: "plain" | "any" = "any",
): Buffer {
  const isAny = way === "any";
  const bytes = Buffer.from(body);
  const isChunked = isAny && random.chance(0.5);
  const cased = (name: string): string => (isAny && random.chance(0.3) ? name.toUpperCase() : name);
  const headers = [
    `${cased("host")}: localhost`,
    ...(token === "" ? [] : [`${cased("authorization")}: ${cased("bearer")} ${token}`]),
    isChunked
      ? `${cased("transfer-encoding")}:  ${cased("chunked")}`
      : `${cased("content-length")}:${bytes.length}`,
    ...(isHeld ? [`${cased("expect")}: 100-continue`] : []),
    ...(isAny && random.chance(0.2)
      ? Array.from({ length: 60 }, (_, index) => `x-${index}: ${"y".repeat(100)}`)
      : []),
  ];
  const head = [`POST ${path} HTTP/1.1`, ...random.shuffle(headers), "", ""].join("\r\n");
  return Buffer.concat([Buffer.from(head), isChunked ? chunked(bytes, random) : bytes]);
}

function chunked(bytes: Buffer, random: Random): Buffer {
  const parts: Buffer[] = [];
  for (let start = 0; start < bytes.length;) {
    const chunk = bytes.subarray(start, start + random.pick([1, 10, 1000, bytes.length]));
    start += chunk.length;
    const size = chunk.length.toString(16);
    const extension = random.chance(0.2) ? `;name="va lue"` : "";
    const head = `${random.chance(0.3) ? `000${size.toUpperCase()}` : size}${extension}\r\n`;
    parts.push(Buffer.from(head), chunk, Buffer.from("\r\n"));
  }
  const trailer = random.chance(0.3) ? "x-trailer: 1\r\nauthorization: Bearer x\r\n" : "";
  return Buffer.concat([...parts, Buffer.from(`0\r\n${trailer}\r\n`)]);
}

/** A few bytes are others, missing, or there twice. */
function changed(bytes: Buffer, random: Random): Buffer {
  let copy = Buffer.from(bytes);
  for (let count = random.integer(1, 4); count > 0; count--) {
    const at = random.integer(0, copy.length - 1);
    const end = Math.min(copy.length, at + random.pick([1, 2, 40]));
    const [start, tail] = [copy.subarray(0, at), copy.subarray(at)];
    const way = random.integer(0, 3);
    if (way <= 1) copy[at] = random.pick([0, 10, 13, 32, 58, 127, 0xff, copy[at]! ^ 1]);
    else
      copy = Buffer.concat(way === 2 ? [start, copy.subarray(end)] : [copy.subarray(0, end), tail]);
  }
  return copy;
}

const HELLO = (token: string): string => JSON.stringify({ type: "hello", jwt: token });
const SOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ==";

/** A WebSocket that has been opened, with compression offered. */
async function openSocket(world: World): Promise<RawConnection> {
  const connection = await world.connect();
  const head = `GET /left/ HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: ${SOCKET_KEY}\r\nsec-websocket-protocol: hrana2\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\r\ncontent-length: 0\r\n\r\n`;
  await connection.send(Buffer.from(head), world.random);
  const answer = await connection.upgraded();
  expect(answer).toMatch(/^HTTP\/1\.1 101 /);
  // Compression is not offered: nothing that comes is to be expanded.
  expect(answer.toLowerCase()).not.toContain("deflate");
  return connection;
}

function messages(world: World, count: number): string[] {
  const open = { type: "open_stream", stream_id: 0 };
  const requests = [open, ...Array.from({ length: count }, (_, id) => socketAsk(world, id))];
  return [
    HELLO(world.tokens.get("left")!),
    ...requests.map((request, index) =>
      JSON.stringify({ type: "request", request_id: index, request }),
    ),
  ];
}

function socketAsk(world: World, id: number): object {
  const { requests } = JSON.parse(ask({ world, id, tenant: "left", token: "left" }).body) as {
    requests: object[];
  };
  return { ...requests[0], stream_id: 0 };
}

/** What no client may send, each by itself. */
function brokenFrames(random: Random): Buffer {
  const text = Buffer.from('{"type":"hello"}');
  const sized = (size: bigint): Buffer => {
    const head = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    head.writeBigUInt64BE(size, 2);
    return head;
  };
  return random.pick<() => Buffer>([
    () => Buffer.concat([Buffer.from([0x81, text.length]), text]), // Not masked.
    () => frameBytes(Opcode.text, text, { random, bits: 0xc0 }), // Compressed.
    () => frameBytes(Opcode.text, text, { random, bits: 0xa0 }),
    () => frameBytes(Opcode.text, text, { random, bits: 0x90 }),
    () => frameBytes(random.pick([3, 4, 7, 11, 15]), text, { random }),
    () => frameBytes(Opcode.continuation, text, { random }),
    () => Buffer.concat([0, 0].map(() => frameBytes(Opcode.text, text, { random, bits: 0 }))),
    () => frameBytes(Opcode.ping, Buffer.alloc(126), { random }),
    () => frameBytes(Opcode.ping, text, { random, bits: 0 }),
    () => frameBytes(Opcode.text, Buffer.from([0x22, 0xff, 0xfe, 0x22]), { random }),
    () => frameBytes(Opcode.text, Buffer.from('"\ud800"', "utf16le"), { random }),
    () => frameBytes(Opcode.text, Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), { random }),
    () => frameBytes(Opcode.binary, text, { random }),
    () => frameBytes(Opcode.close, Buffer.from([3]), { random }),
    () => frameBytes(Opcode.close, Buffer.from([3, 0xe7]), { random }),
    () => frameBytes(Opcode.close, Buffer.from([3, 0xe8, 0xff]), { random }),
    () => frameBytes(Opcode.close, Buffer.alloc(0), { random }),
    () => sized(2n ** 63n),
    () => sized(2n ** 53n),
    () => sized(300_000n), // More than a request may have.
  ])();
}

describe.each<[Kind, number]>([
  ["one thread", LONG ? 1000 : 30],
  ["threads", LONG ? 300 : 6],
  ["TLS", LONG ? 300 : 8],
])("bytes to a server, %s", (kind, rounds) => {
  test("requests are answered in their order, however they are written", TIMEOUT, async () => {
    await using world = await World.start(kind, SEED);
    const { random } = world;
    for (let round = 0; round < rounds; round++) {
      const asked = Array.from({ length: random.integer(1, 12) }, (_, id) => anyAsked(world, id));
      const connection = await world.connect();
      const sent = connection.send(Buffer.concat(asked.map((each) => frame(random, each))), random);
      // Who is refused before the body may come is answered, and the connection is ended: what is unread is lost when the body comes nevertheless.
      const left = asked.findLastIndex(({ isHeld, status }) => isHeld && status !== 200);
      for (const [index, { answer, status, path }] of asked.entries()) {
        const came = await connection.answer();
        if (came === null && index <= left) break;
        const what = `seed ${SEED}, round ${round}, request ${index}: ${path} ${JSON.stringify(came)?.slice(0, 500)}`;
        expect([came?.status, came?.body.includes(answer)], what).toEqual([status, true]);
        if (status !== 200) expect(came?.body, what).not.toContain("what ");
        // Who is refused is refused before the body is read: the connection may be of no more use.
        if (/^connection: close\r$/im.test(came?.head ?? "")) break;
      }
      await sent;
      connection.socket.destroy();
    }
    await world.works();
  });

  test("what is changed, cut or left ends with its connection", TIMEOUT, async () => {
    await using world = await World.start(kind, SEED + 1);
    const { random } = world;
    for (let round = 0; round < rounds * 3; round++) {
      const asked = Array.from({ length: random.integer(1, 3) }, (_, id) =>
        ask({ world, id, tenant: random.pick(TENANTS), token: "left" }),
      );
      const whole = Buffer.concat(asked.map((each) => frame(random, each)));
      const connection = await world.connect();
      const isCut = random.chance(0.2);
      const bytes = isCut
        ? whole.subarray(0, random.integer(1, whole.length - 1))
        : changed(whole, random);
      await connection.send(bytes, random);
      const what = `seed ${SEED + 1}, round ${round}: ${bytes.toString("latin1").slice(0, 2000)}`;
      if (random.chance(0.2)) {
        connection.socket.destroy();
        continue;
      }
      const came = await connection.end();
      expect(came, what).toMatch(/^(?:HTTP\/1\.1 [1-4]|$)/);
      expect(came, what).not.toMatch(/HTTP\/1\.1 5|"INTERNAL"/);
      expect(came, what).not.toContain(dataOf("right"));
    }
    await world.works();
  });

  test("messages of a WebSocket come in fragments, with pings between them", TIMEOUT, async () => {
    await using world = await World.start(kind, SEED + 2);
    const { random } = world;
    for (let round = 0; round < rounds / 2; round++) {
      const connection = await openSocket(world);
      const count = random.integer(1, 10);
      const sent = connection.send(
        Buffer.concat(
          messages(world, count).map((text, index) => fragments(text, [`ping ${index}`], random)),
        ),
        random,
      );
      const pongs: string[] = [];
      const answers: string[] = [];
      while (answers.length < count + 2 || pongs.length < count + 2) {
        const came = await connection.frame();
        if (came === null) expect.fail(`seed ${SEED + 2}, round ${round}: it has ended`);
        if (came.opcode === Opcode.pong) pongs.push(came.payload.toString());
        else answers.push(came.payload.toString());
      }
      await sent;
      expect(pongs).toEqual(Array.from({ length: count + 2 }, (_, index) => `ping ${index}`));
      expect(answers[0]).toBe('{"type":"hello_ok"}');
      for (let id = 0; id < count; id++)
        expect(answers[id + 2]).toContain(`"${id} ${dataOf("left")}"`);
      connection.socket.destroy();
    }
    await world.works();
  });

  test("frames that are none end the WebSocket", TIMEOUT, async () => {
    await using world = await World.start(kind, SEED + 3);
    const { random } = world;
    for (let round = 0; round < rounds * 2; round++) {
      const connection = await openSocket(world);
      const good = Buffer.concat(messages(world, 2).map((text) => fragments(text, [], random)));
      const isChanged = random.chance(0.5);
      const bytes = isChanged
        ? changed(good, random)
        : Buffer.concat([good, brokenFrames(random), good]);
      await connection.send(bytes, random);
      const what = `seed ${SEED + 3}, round ${round}: ${bytes.toString("hex").slice(0, 4000)}`;
      if (random.chance(0.2)) {
        connection.socket.destroy();
        continue;
      }
      if (!isChanged) {
        // By itself, and not because this side ends. The reason is lost when it ends while bytes are on their way to it.
        let last = await connection.frame();
        while (last !== null && last.opcode !== Opcode.close) last = await connection.frame();
      }
      const came = await connection.end();
      expect(came, what).not.toContain('"INTERNAL"');
      expect(came, what).not.toContain(dataOf("right"));
    }
    await world.works();
  });
});
