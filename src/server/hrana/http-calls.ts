/** Hrana's calls over HTTP: which there are, and who answers them. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { notFound, sendJson } from "../http-exchange.ts";
import type { RequestKind } from "../operations/server-counters.ts";
import type { HranaCall } from "../route.ts";
import { answerCursor } from "./cursor.ts";
import type { Endpoint } from "./endpoint.ts";
import { answerPipeline } from "./pipeline.ts";
import { answerStateless } from "./stateless.ts";

export const KIND_OF_CALL: Readonly<Record<HranaCall, RequestKind>> = {
  "v1/batch": "stateless",
  "v1/execute": "stateless",
  "v2/pipeline": "pipeline",
  "v3/cursor": "cursor",
  "v3/pipeline": "pipeline",
  root: "stateless",
  v2: "question",
  v3: "question",
};

export function answerHrana(
  endpoint: Endpoint,
  {
    call,
    body,
    response,
    request,
  }: {
    readonly call: HranaCall;
    readonly body: string;
    readonly response: ServerResponse;
    readonly request: IncomingMessage;
  },
): Promise<void> {
  switch (call) {
    case "v2/pipeline":
    case "v3/pipeline":
      return answerPipeline(endpoint, {
        body,
        version: call === "v2/pipeline" ? 2 : 3,
        response,
      });
    case "v3/cursor":
      return answerCursor(endpoint, { body, response });
    case "v1/execute":
    case "v1/batch":
    case "root":
      return answerStateless(endpoint, { call, body, response });
    case "v2":
    case "v3":
      throw notFound(request);
  }
}

export function isQuestion(call: HranaCall): call is "root" | "v2" | "v3" {
  return call === "root" || call === "v2" || call === "v3";
}

/** Whether a version is there, and who is. */
export function answerQuestion(call: "root" | "v2" | "v3", response: ServerResponse): void {
  if (call === "root") {
    sendJson(response, 200, '{"server":"bough","protocols":["hrana1","hrana2","hrana3"]}');
    return;
  }
  response.writeHead(200, { "content-type": "text/plain" });
  response.end(`Hrana over HTTP, version ${call.slice(1)}\n`);
}
