/**
 * Ceph's gateway as a real S3 server for tests: one monitor, one manager, one object store daemon that keeps everything in memory,
 * one gateway, all on loopback with ports of their own, in a temporary directory. From Debian's packages, without systemd.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { createWriteStream, existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

const PACKAGES = ["radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-common"];
const PROGRAMS = ["radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph"];
const START_MS_MAX = 120_000;
const INSTALL_MS_MAX = 300_000;
const MEMORY_BYTES = 4 * 1024 ** 3;

export interface Radosgw {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Ends all of it and deletes its directory. */
  stop(): Promise<void>;
}

/** Why it cannot run here; null when it can. */
async function obstacle(): Promise<string | null> {
  const missing = PROGRAMS.filter((name) => !isInstalled(name));
  if (missing.length === 0) return null;
  if (!existsSync("/usr/bin/apt-get"))
    return `there is no ${missing.join(", ")}, and no apt-get to install it`;
  if (process.getuid?.() !== 0)
    return `there is no ${missing.join(", ")}; install it: apt-get install ${PACKAGES.join(" ")}`;
  try {
    await install();
    return null;
  } catch (error) {
    return `apt-get failed: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function isInstalled(program: string): boolean {
  return ["/usr/bin", "/usr/local/bin", "/usr/sbin"].some((place) =>
    existsSync(join(place, program)),
  );
}

async function install(): Promise<void> {
  const options = {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    maxBuffer: 64 * 1024 * 1024,
    timeout: INSTALL_MS_MAX,
  };
  const wait = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"];
  await run("apt-get", [...wait, "update"], options);
  await run("apt-get", [...wait, "install", "-y", "--no-install-recommends", ...PACKAGES], options);
}

/** Installs what is missing, where it may. Throws what stands in the way, and when `signal` is aborted. */
export async function startRadosgw(signal: AbortSignal): Promise<Radosgw> {
  const aborted = new Promise<string>((resolve) => {
    signal.addEventListener("abort", () => resolve("it was interrupted"), { once: true });
  });
  // An installation is never broken off in the middle: it ends by itself.
  const reason = await Promise.race([obstacle(), aborted]);
  if (reason !== null) throw new Error(`Cannot start radosgw: ${reason}`);
  const cluster = new Cluster(await mkdtemp(join(tmpdir(), "bough-radosgw-")), signal);
  try {
    return await cluster.start();
  } catch (error) {
    const log = await cluster.lastLines();
    await cluster.stop();
    throw new Error(`Cannot start radosgw: ${String(error)}\n${log}`, { cause: error });
  }
}

class Cluster {
  private readonly directory: string;
  private readonly configuration: string;
  private readonly daemons: ChildProcess[] = [];
  private ended: string | null = null;
  private readonly deadlineMs = Date.now() + START_MS_MAX;

  constructor(directory: string, signal: AbortSignal) {
    signal.addEventListener("abort", () => (this.ended ??= "it was interrupted"), { once: true });
    this.directory = directory;
    this.configuration = join(directory, "ceph.conf");
  }

  async start(): Promise<Radosgw> {
    const [monitorPort, gatewayPort] = await freePorts(2);
    const fsid = randomUUID();
    await writeFile(this.configuration, this.settings({ fsid, monitorPort, gatewayPort }));
    await this.startMonitor(fsid, monitorPort);
    await this.startStorage();
    this.daemon("radosgw", ["-n", "client.rgw.a", "-f"]);
    const accessKeyId = randomBytes(10).toString("hex").toUpperCase();
    const secretAccessKey = randomBytes(20).toString("hex");
    await this.call(
      "radosgw-admin",
      "user create --uid bough --display-name bough"
        .split(" ")
        .concat("--access-key", accessKeyId, "--secret-key", secretAccessKey),
    );
    const endpoint = `http://127.0.0.1:${gatewayPort}`;
    await this.until(async () => (await fetch(endpoint)).ok);
    return { endpoint, accessKeyId, secretAccessKey, stop: () => this.stop() };
  }

  async stop(): Promise<void> {
    this.ended ??= "stopped";
    const living = this.daemons.filter(
      ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
    );
    await Promise.all(
      living.map((daemon) => {
        const end = new Promise((resolve) => daemon.once("exit", resolve));
        daemon.kill("SIGKILL");
        return end;
      }),
    );
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  async lastLines(): Promise<string> {
    const logs = await Promise.all(
      ["ceph-mon", "ceph-mgr", "ceph-osd", "radosgw"].map(async (name) => {
        const path = join(this.directory, `${name}.out`);
        const lines = existsSync(path) ? (await readFile(path, "utf8")).split("\n").slice(-5) : [];
        return [`${name}:`, ...lines];
      }),
    );
    return logs.flat().join("\n");
  }

  private settings(options: { fsid: string; monitorPort: number; gatewayPort: number }): string {
    const { directory } = this;
    return [
      "[global]",
      `fsid = ${options.fsid}`,
      `mon host = [v2:127.0.0.1:${options.monitorPort}]`,
      "public addr = 127.0.0.1",
      "cluster addr = 127.0.0.1",
      // The gateway hangs without.
      "auth cluster required = cephx",
      "auth service required = cephx",
      "auth client required = cephx",
      `keyring = ${directory}/keyring`,
      `run dir = ${directory}`,
      `admin socket = ${directory}/$name.asok`,
      `log file = ${directory}/$name.log`,
      `crash dir = ${directory}/crash`,
      `mon data = ${directory}/mon`,
      `mgr data = ${directory}/mgr`,
      `osd data = ${directory}/osd`,
      "osd objectstore = memstore",
      `memstore device bytes = ${MEMORY_BYTES}`,
      "osd pool default size = 1",
      "osd pool default min size = 1",
      "osd pool default pg num = 1",
      "osd pool default pg autoscale mode = off",
      "osd crush chooseleaf type = 0",
      "mon allow pool size one = true",
      "mon allow pool delete = true",
      "mon max pg per osd = 1000",
      // A machine whose disk is nearly full must not make the monitor stop.
      "mon data avail crit = 0",
      "mon data avail warn = 0",
      "mgr initial modules =",
      "rgw thread pool size = 64",
      "rgw gc obj min wait = 60",
      "[client.rgw.a]",
      `rgw data = ${directory}/rgw`,
      // Without tcp_nodelay a small get takes 44 ms.
      `rgw frontends = beast endpoint=127.0.0.1:${options.gatewayPort} tcp_nodelay=1`,
      "",
    ].join("\n");
  }

  private async startMonitor(fsid: string, port: number): Promise<void> {
    const { directory } = this;
    const keyring = join(directory, "keyring");
    const map = join(directory, "monmap");
    for (const name of ["mon", "mgr", "osd", "rgw", "crash"]) await mkdir(join(directory, name));
    await run("ceph-authtool", [
      "--create-keyring",
      keyring,
      "--gen-key",
      "-n",
      "mon.",
      "--cap",
      "mon",
      "allow *",
    ]);
    await run("ceph-authtool", [
      keyring,
      "--gen-key",
      "-n",
      "client.admin",
      ...["mon", "osd", "mgr", "mds"].flatMap((service) => ["--cap", service, "allow *"]),
    ]);
    await run("monmaptool", [
      "--create",
      "--addv",
      "a",
      `[v2:127.0.0.1:${port}]`,
      "--fsid",
      fsid,
      map,
    ]);
    await this.call("ceph-mon", ["--mkfs", "-i", "a", "--monmap", map, "--keyring", keyring]);
    this.daemon("ceph-mon", ["-i", "a", "-f"]);
    await this.until(async () => {
      await this.call("ceph", ["--connect-timeout", "5", "mon", "stat"]);
      return true;
    });
  }

  private async startStorage(): Promise<void> {
    const { directory } = this;
    const keyring = join(directory, "keyring");
    const clients = await Promise.all(
      [
        ["mgr.x", "mon", "osd", "mds"],
        ["osd.0", "mon", "osd", "mgr"],
        ["client.rgw.a", "mon", "osd", "mgr"],
      ].map(async ([name = "", ...services]) => {
        const capabilities = services.flatMap((service) => [service, "allow *"]);
        return this.call("ceph", ["auth", "get-or-create", name, ...capabilities]);
      }),
    );
    await writeFile(keyring, `${await readFile(keyring, "utf8")}\n${clients.join("\n")}`);
    this.daemon("ceph-mgr", ["-i", "x", "-f"]);
    const id = randomUUID();
    await this.call("ceph", ["osd", "new", id]);
    await this.call("ceph-osd", ["-i", "0", "--mkfs", "--osd-uuid", id]);
    this.daemon("ceph-osd", ["-i", "0", "-f"]);
    await this.until(async () => (await this.call("ceph", ["osd", "stat"])).includes("1 up"));
  }

  private async call(program: string, parameters: readonly string[]): Promise<string> {
    if (this.ended !== null) throw new Error(this.ended);
    const { stdout } = await run(program, ["-c", this.configuration, ...parameters], {
      timeout: Math.max(1, this.deadlineMs - Date.now()),
    });
    return stdout;
  }

  /** A daemon that dies with this process, however that ends. */
  private daemon(program: string, parameters: readonly string[]): void {
    const whole = [program, "-c", this.configuration, ...parameters];
    const command = existsSync("/usr/bin/setpriv")
      ? ["setpriv", "--pdeathsig", "KILL", ...whole]
      : whole;
    const output = createWriteStream(join(this.directory, `${program}.out`));
    const daemon = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    daemon.stdout.pipe(output, { end: false });
    daemon.stderr.pipe(output, { end: false });
    daemon.once("error", (error) => (this.ended ??= `${program}: ${error.message}`));
    daemon.once("exit", (code) => (this.ended ??= `${program} ended with code ${code}`));
    this.daemons.push(daemon);
  }

  private async until(check: () => Promise<boolean>): Promise<void> {
    for (;;) {
      let reason: unknown = "no answer";
      try {
        if (await check()) return;
      } catch (error) {
        reason = error;
      }
      if (this.ended !== null) throw new Error(this.ended);
      if (Date.now() > this.deadlineMs)
        throw new Error(`not ready after ${START_MS_MAX / 1000} s`, { cause: reason });
      await pause(100);
    }
  }
}

async function freePorts(count: number): Promise<[number, number]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  const [first = 0, second = 0] = ports;
  return [first, second];
}
