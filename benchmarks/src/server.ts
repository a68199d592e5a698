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
    ...CLIENTS.map((clients): Item => ({
      work: "batch",
      clients,
      requests: (clients === 1 ? 40 : 200) * scale,
      unit: "req/s",
      wanted: {},
    })),
  ];
}

const IDLE = "server-idle-streams";
const IDLE_STREAMS = 1000;
const MIB = 1024 * 1024;

const SIDE_NAMES: Record<ServerSide, string> = {
  bough: "bough",
  bare: "bare node:http",
  "better-sqlite3": "better-sqlite3 behind it",
};

const TITLES: Record<ServerWork, string> = {
  read: "Server: single-row reads",
  write: "Server: single-row durable writes",
  batch: `Server: batches of ${BATCH_STATEMENTS} updates, each a transaction`,
};

export async function benchServer(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const chosen = items(settings.isQuick).filter((item) => settings.includes(nameOf(item)));
  const wantsIdle = settings.includes(IDLE);
  if (chosen.length === 0 && !wantsIdle) return [];
  const servers = new Map<ServerSide | "idle", RunningServer>();
  const rows: ResultRow[] = [];
  try {
    if (chosen.length > 0)
      for (const side of ["bough", "bare", "better-sqlite3"] as const)
        servers.set(side, await startServer(sides, side));
    for (const item of chosen)
      for (const row of await measure(item, servers, settings)) {
        rows.push(row);
        settings.show(row);
      }
    if (wantsIdle) {
      const row = await measureIdle(await startServer(sides, "bough", "idle"), servers);
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
  servers: ReadonlyMap<ServerSide | "idle", RunningServer>,
  settings: Settings,
): Promise<ResultRow[]> {
  const latencies = new Map<ServerSide, ClientTimes[]>();
  const round = (side: ServerSide) => async (): Promise<Sample> => {
    const { work, clients, requests } = item;
    const times = await runClients({ port: servers.get(side)!.port, work, clients, requests });
    latencies.set(side, [...(latencies.get(side) ?? []), times]);
    return { operations: requests, ms: times.ms };
  };
  const clients = item.clients === 1 ? "1 client" : `${item.clients} clients`;
  const title = `${TITLES[item.work]}, ${clients}`;
  const rows: ResultRow[] = [];
  for (const baseline of ["bare", "better-sqlite3"] as const) {
    const row = await compare(
      { item: nameOf(item), title, unit: item.unit },
      { bough: round("bough"), sqlite: round(baseline) },
      { rounds: settings.rounds, wanted: item.wanted[baseline] ?? null },
    );
    rows.push({ ...row, baselineName: SIDE_NAMES[baseline] });
  }
  for (const name of ["p50", "p99"] as const)
    for (const [side, times] of latencies)
      rows.push(
        fact(
          {
            item: `${nameOf(item)}-${name}-${side}`,
            title: `${title}: ${name}, ${SIDE_NAMES[side]}`,
            unit: "ms",
          },
          median(times.map((each) => each[name])),
        ),
      );
  return rows;
}

interface RunningServer {
  readonly process: ChildProcess;
  readonly port: number;
}

/** What streams cost that a client has opened, used once and keeps: memory that the process has more. */
async function measureIdle(
  server: RunningServer,
  servers: Map<ServerSide | "idle", RunningServer>,
): Promise<ResultRow> {
  servers.set("idle", server);
  const url = `http://127.0.0.1:${server.port}/data/v2/pipeline`;
  const open = async (id: number): Promise<void> => {
    const sql = `SELECT * FROM customer WHERE id = ${id}`;
    const body = JSON.stringify({ requests: [{ type: "execute", stmt: { sql } }] });
    const response = await fetch(url, { method: "POST", body });
    const { baton } = (await response.json()) as { baton: string | null };
    if (baton === null) throw new Error("The server has ended the stream");
  };
  await open(1);
  const before = await memoryOf(server);
  for (let id = 0; id < IDLE_STREAMS; id++) await open(id + 1);
  const after = await memoryOf(server);
  return fact(
    { item: IDLE, title: `Server: memory for ${IDLE_STREAMS} idle streams`, unit: "MiB" },
    Math.max(0, after - before) / MIB,
    { max: 200 },
  );
}

function memoryOf({ process: child }: RunningServer): Promise<number> {
  return new Promise((resolve) => {
    child.stdout?.once("data", (line: Buffer) => resolve(Number(line.toString())));
    child.stdin?.write("memory\n");
  });
}

function startServer(
  { workspace }: Sides,
  side: ServerSide,
  name = "served",
): Promise<RunningServer> {
  const script = fileURLToPath(new URL("server-side-process.js", import.meta.url));
  const child = spawn(
    process.execPath,
    [...process.execArgv, script, side, workspace.root, workspace.path(name)],
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
