/**
 * Answers to requests that a client has sent without waiting for the answer before. Node gives an answer the connection when it is its
 * turn, and tells one that still waits nothing when the connection closes: whoever waits for "close" would wait for ever, and hold what it holds.
 *
 * N1. An answer that waits is destroyed, and emits "close", when its connection closes.
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** One listener for a connection, however many wait. */
const waiting: WeakMap<Socket, Set<ServerResponse>> = new WeakMap();

/** To be called when the request has come. Does nothing for an answer that has its connection. */
export function closeWithConnection(response: ServerResponse): void {
  if (response.socket !== null) return;
  const { socket } = response.req;
  const answers = waiting.get(socket) ?? watch(socket);
  answers.add(response);
  response.once("socket", () => answers.delete(response)); // Node tells it from now on.
}

function watch(socket: Socket): Set<ServerResponse> {
  const answers = new Set<ServerResponse>();
  waiting.set(socket, answers);
  socket.once("close", () => {
    for (const response of answers) {
      response.destroy();
      response.emit("close");
    }
  });
  return answers;
}
