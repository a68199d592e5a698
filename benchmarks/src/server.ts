/** The server over loopback, connections kept: beside a bare node:http server, and better-sqlite3 behind that. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { compare, fact, median, type ResultRow, type Sample } from "./measure.ts";
import type { ClientRound, ClientTimes } from "./server-client-process.ts";
import { BATCH_STATEMENTS, type ServerSide, type ServerWork } from "./server-requests.ts";
import type { Settings } from "./settings.ts";
import type { Sides } from "./sides.ts";

interface Item {
  readonly work: ServerWork;
  readonly clients: number;
  readonly requests: number;
  /** Of requests, or of rows where one has many. */
  readonly unit: string;
  /** What bough's throughput is to be, by side. */
  readonly wanted: Partial<Record<ServerSide, number>>;
}

const CLIENTS = [1, 16, 64];

function items(isQuick: boolean): Item[] {
  const scale = isQuick ? 1 : 5;
  return [
    ...CLIENTS.map((clients): Item => ({
      work: "read",
      clients,
      requests: 4000 * scale,
      unit: "req/s",
      wanted: { bare: 0.5 },
    })),
    ...CLIENTS.map((clients): Item => ({
      work: "write",
      clients,
      requests: (clients === 1 ? 500 : 3000) * scale,
      unit: "req/s",
      wanted: clients === 64 ? { "better-sqlite3": 5 } : {},
    })),
    { work: "batch", clients: 16, requests: 200 * scale, unit: "req/s", wanted: {} },
  ];
}

const TITLES: Record<ServerWork, string> = {
  read: "Server: single-row reads",
  write: "Server: single-row durable writes",
  batch: `Server: batches of ${BATCH_STATEMENTS} updates, each a transaction`,
};

export async function benchServer(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const chosen = items(settings.isQuick).filter((item) => settings.includes(nameOf(item)));
  if (chosen.length === 0) return [];
  const servers = new Map<ServerSide, RunningServer>();
  const rows: ResultRow[] = [];
  try {
    for (const side of ["bough", "bare", "better-sqlite3"] as const)
      servers.set(side, await startServer(sides, side));
    for (const item of chosen)
      for (const row of await measure(item, servers, settings)) {
        rows.push(row);
        settings.show(row);
      }
  } finally {
    for (const { process } of servers.values()) process.kill();
  }
  return rows;
}

function nameOf({ work, clients }: Item): string {
  return `server-${work}-${clients}`;
}

async function measure(
  item: Item,
  servers: ReadonlyMap<ServerSide, RunningServer>,
  settings: Settings,
): Promise<ResultRow[]> {
  const latencies = { p50: [] as number[], p99: [] as number[] };
  const round = (side: ServerSide) => async (): Promise<Sample> => {
    const { work, clients, requests } = item;
    const times = await runClients({ port: servers.get(side)!.port, work, clients, requests });
    if (side === "bough") {
      latencies.p50.push(times.p50);
      latencies.p99.push(times.p99);
    }
    return { operations: requests, ms: times.ms };
  };
  const clients = item.clients === 1 ? "1 client" : `${item.clients} clients`;
  const title = `${TITLES[item.work]}, ${clients}`;
  const rows: ResultRow[] = [];
  for (const baseline of ["bare", "better-sqlite3"] as const) {
    if (baseline === "bare" && item.work === "batch") continue;
    const row = await compare(
      { item: nameOf(item), title, unit: item.unit },
      { bough: round("bough"), sqlite: round(baseline) },
      { rounds: settings.rounds, wanted: item.wanted[baseline] ?? null },
    );
    const baselineName = baseline === "bare" ? "bare node:http" : `${baseline} behind it`;
    rows.push({ ...row, baselineName });
  }
  for (const name of ["p50", "p99"] as const)
    rows.push(
      fact(
        { item: `${nameOf(item)}-${name}`, title: `${title}: ${name}`, unit: "ms" },
        median(latencies[name]),
      ),
    );
  return rows;
}

interface RunningServer {
  readonly process: ChildProcess;
  readonly port: number;
}

function startServer({ workspace }: Sides, side: ServerSide): Promise<RunningServer> {
  const script = fileURLToPath(new URL("server-side-process.js", import.meta.url));
  const child = spawn(
    process.execPath,
    [...process.execArgv, script, side, workspace.root, workspace.path("served")],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`The server "${side}" ended with ${code}`)));
    child.stdout.once("data", (line: Buffer) =>
      resolve({ process: child, port: Number(line.toString()) }),
    );
  });
}

async function runClients(round: ClientRound): Promise<ClientTimes> {
  const script = fileURLToPath(new URL("server-client-process.js", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, JSON.stringify(round)]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return JSON.parse(stdout) as ClientTimes;
}
