/**
 * The clients of one round, in a process of their own: each a connection that is kept, which sends the next request when the answer to the one
 * before is there. They write to plain sockets and look for nothing but the end of the answer, so that they are not what is measured.
 */
import { connect, type Socket } from "node:net";
import { percentile } from "./measure.ts";
import { randomIds } from "./sample-data.ts";
import { BATCH_STATEMENTS, requestBody, type ServerWork, TABLE_ROWS } from "./server-requests.ts";

export interface ClientRound {
  readonly port: number;
  readonly work: ServerWork;
  readonly clients: number;
  readonly requests: number;
}

export interface ClientTimes {
  readonly ms: number;
  readonly p50: number;
  readonly p99: number;
}

const HEADER_END = "\r\n\r\n";

async function run({ port, work, clients, requests }: ClientRound): Promise<ClientTimes> {
  const perRequest = work === "batch" ? BATCH_STATEMENTS : 1;
  const bodies = Math.min(requests, 2000);
  const ids = [...randomIds(bodies * perRequest, TABLE_ROWS, 7)];
  const messages = Array.from({ length: bodies }, (_, index) => {
    const body = requestBody(work, ids.slice(index * perRequest, (index + 1) * perRequest));
    return Buffer.from(
      `POST /data/v2/pipeline HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}${HEADER_END}${body}`,
    );
  });
  const sockets = await Promise.all(Array.from({ length: clients }, () => open(port)));
  const times: number[] = [];
  let next = 0;
  const start = performance.now();
  await Promise.all(
    sockets.map(async (socket) => {
      while (next < requests) {
        const message = messages[next++ % bodies]!;
        const sent = performance.now();
        await exchange(socket, message);
        times.push(performance.now() - sent);
      }
    }),
  );
  const ms = performance.now() - start;
  for (const socket of sockets) socket.destroy();
  return { ms, p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket));
    socket.setNoDelay(true);
    socket.once("error", reject);
  });
}

function exchange(socket: Socket, message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    let answer = "";
    let end = -1;
    const onData = (chunk: Buffer): void => {
      answer += chunk.toString("latin1");
      if (end < 0) {
        const header = answer.indexOf(HEADER_END);
        if (header < 0) return;
        const length = /content-length: (\d+)/i.exec(answer)?.[1];
        if (!answer.startsWith("HTTP/1.1 200") || answer.includes('"type":"error"')) {
          reject(new Error(`The server answered ${answer}`));
          return;
        }
        end = header + HEADER_END.length + Number(length);
      }
      if (answer.length < end) return;
      socket.off("data", onData);
      resolve();
    };
    socket.on("data", onData);
    socket.write(message);
  });
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion
const round = JSON.parse(process.argv[2] ?? "{}") as ClientRound;
process.stdout.write(JSON.stringify(await run(round)));
