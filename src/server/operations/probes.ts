/**
 * What those ask who look after the server: /health and /ready, by anybody and under any name of the host, so they say nothing of what is in
 * the store; /metrics for who may administer the whole server.
 *
 *   /health  200 {"status":"up"}       the process answers
 *   /ready   200 {"status":"ready"}    503 {"status":"stopping"} or {"status":"failed"}: do not send anybody here
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { StoreError } from "../../errors.ts";
import { permits, type Principal } from "../access/principal.ts";
import { sendJson } from "../http-exchange.ts";
import type { ServedStore } from "../served-store.ts";
import type { MetricsOptions, MetricsPage } from "./metrics.ts";

export type Probe = "health" | "ready";

/** Null: something else. */
export function probeOf({ method, url = "" }: IncomingMessage): Probe | null {
  if (method !== "GET" && method !== "HEAD") return null;
  const [, name] = /^\/(health|ready)\/?(?:\?|$)/.exec(url) ?? [];
  return name === "health" || name === "ready" ? name : null;
}

export async function answerProbe(
  probe: Probe,
  response: ServerResponse,
  { store, isStopping }: { readonly store: ServedStore; readonly isStopping: boolean },
): Promise<void> {
  response.setHeader("cache-control", "no-store");
  if (probe === "health") {
    sendJson(response, 200, '{"status":"up"}');
    return;
  }
  const status = isStopping ? "stopping" : (await hasFailed(store)) ? "failed" : "ready";
  sendJson(response, status === "ready" ? 200 : 503, `{"status":"${status}"}`);
}

/** One that does not answer is not ready either: whoever asks has a time limit. */
async function hasFailed(store: ServedStore): Promise<boolean> {
  try {
    return (await store.counters()).failedPartitions > 0;
  } catch {
    return true;
  }
}

export class MetricsEndpoint {
  readonly #options: MetricsOptions;
  #page: Promise<MetricsPage> | null = null;

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  /** Throws FORBIDDEN. */
  async answer(
    { method }: IncomingMessage,
    response: ServerResponse,
    principal: Principal,
  ): Promise<void> {
    if (!permits(principal, { action: "admin", database: null, branch: null }))
      throw new StoreError(
        "FORBIDDEN",
        "Cannot read the metrics: the token does not allow to administer the whole server",
      );
    if (method !== "GET" && method !== "HEAD")
      throw new StoreError("ENDPOINT_NOT_FOUND", "Cannot change the metrics: they are for GET");
    this.#page ??= this.#load();
    const page = await this.#page;
    const text = Buffer.from(await page.read());
    response.writeHead(200, { "content-type": page.contentType, "content-length": text.length });
    response.end(text);
  }

  async #load(): Promise<MetricsPage> {
    const { makeMetricsPage } = await import("./metrics.ts");
    return makeMetricsPage(this.#options);
  }
}
