/** HTTP and WebSocket frames as bytes, for tests that send what no library would: server-fuzz-wire.test.ts. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Random } from "../src/testing/random.ts";

export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

export interface RawFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

export const Opcode = {
  continuation: 0,
  text: 1,
  binary: 2,
  close: 8,
  ping: 9,
  pong: 10,
} as const;

export class RawConnection {
  readonly socket: Socket;
  readonly #closed: Promise<unknown>;
  #received: Buffer = Buffer.alloc(0);
  /** How much of it has been read. */
  #position = 0;
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket.setNoDelay();
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#isClosed = true;
        this.#wake();
        resolve(null);
      });
    });
    socket.on("error", () => {}); // It may be reset.
    socket.on("data", (data: Buffer) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#wake();
    });
  }

  /** `ca`: of the certificate of a server with TLS. */
  static async open(url: string, ca: string | null = null): Promise<RawConnection> {
    const { port } = new URL(url);
    const at = { port: Number(port), host: "127.0.0.1" };
    const socket = ca === null ? connect(at) : connectTls({ ...at, ca, servername: "localhost" });
    const connection = new RawConnection(socket);
    await once(socket, ca === null ? "connect" : "secureConnect");
    return connection;
  }

  /** In pieces, with time for the server in between. */
  async send(bytes: Buffer, random: Random): Promise<void> {
    for (let start = 0; start < bytes.length;) {
      const size = random.pick([1, 7, 100, 5000, bytes.length]);
      this.socket.write(bytes.subarray(start, start + size));
      start += size;
      if (random.chance(0.5)) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** All that has come so far. */
  get text(): string {
    return this.#received.toString("latin1");
  }

  /** Resolves when the connection has ended; what came until then. */
  async end(): Promise<string> {
    this.socket.end();
    await this.#closed;
    return this.text;
  }

  /** The next answer, but for those that only say that the body may come; null: the connection has ended. */
  async answer(): Promise<RawAnswer | null> {
    for (;;) {
      const head = await this.#until("\r\n\r\n");
      if (head === null) return null;
      const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1] ?? Number.NaN);
      if (status === 100) continue;
      const length = /^content-length: (\d+)\r$/im.exec(head)?.[1];
      const body = length === undefined ? await this.#chunks() : await this.#take(Number(length));
      return body === null ? null : { status, head, body: body.toString() };
    }
  }

  /** The head of an answer after which frames come. */
  async upgraded(): Promise<string> {
    return (await this.#until("\r\n\r\n")) ?? "";
  }

  /** Null: the connection has ended. */
  async frame(): Promise<RawFrame | null> {
    const start = await this.#take(2);
    if (start === null) return null;
    let length = start[1]!;
    if (length > 125) {
      const extended = await this.#take(length === 126 ? 2 : 8);
      if (extended === null) return null;
      length = length === 126 ? extended.readUInt16BE() : Number(extended.readBigUInt64BE());
    }
    const payload = await this.#take(length);
    return payload === null ? null : { opcode: start[0]! & 15, payload };
  }

  async #chunks(): Promise<Buffer | null> {
    const chunks: Buffer[] = [];
    for (;;) {
      const size = await this.#until("\r\n");
      if (size === null) return null;
      const chunk = await this.#take(Number.parseInt(size, 16) + 2);
      if (chunk === null) return null;
      if (chunk.length === 2) return Buffer.concat(chunks);
      chunks.push(chunk.subarray(0, -2));
    }
  }

  async #until(mark: string): Promise<string | null> {
    for (;;) {
      const at = this.#received.indexOf(mark, this.#position);
      if (at >= 0) return (await this.#take(at + mark.length - this.#position))!.toString("latin1");
      if (!(await this.#more())) return null;
    }
  }

  async #take(length: number): Promise<Buffer | null> {
    while (this.#received.length < this.#position + length) if (!(await this.#more())) return null;
    const taken = this.#received.subarray(this.#position, this.#position + length);
    this.#position += length;
    return taken;
  }

  /** False when nothing more comes. */
  async #more(): Promise<boolean> {
    if (this.#isClosed) return false;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    return true;
  }
}

/** The bytes of a frame of a client. `bits`: those beside the opcode. */
export function frameBytes(
  opcode: number,
  payload: Buffer,
  { random, bits = 0x80 }: { readonly random: Random; readonly bits?: number },
): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = opcode | bits;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  const mask = Buffer.from(random.bytes(4));
  return Buffer.concat([head, mask, payload.map((byte, index) => byte ^ mask[index % 4]!)]);
}

/** A message in several frames, with pings between them. */
export function fragments(text: string, pings: readonly string[], random: Random): Buffer {
  const bytes = Buffer.from(text);
  const frames: Buffer[] = [];
  const left = [...pings];
  for (let start = 0, isLast = false; !isLast;) {
    const size = random.pick([0, 1, 3, 50, bytes.length]);
    isLast = start + size >= bytes.length;
    const opcode = frames.length === 0 ? Opcode.text : Opcode.continuation;
    const payload = bytes.subarray(start, start + size);
    frames.push(frameBytes(opcode, payload, { random, bits: isLast ? 0x80 : 0 }));
    start += size;
    if (!isLast && left.length > 0 && random.chance(0.3))
      frames.push(frameBytes(Opcode.ping, Buffer.from(left.shift()!), { random }));
  }
  // The others after it.
  for (const ping of left) frames.push(frameBytes(Opcode.ping, Buffer.from(ping), { random }));
  return Buffer.concat(frames);
}
