/**
 * Before a test run: starts an S3 server when one of its files asks for it, without waiting for it, so that the half minute
 * passes beside the other tests. After it: ends the server.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

import { isSet, type S3ServerState } from "./s3-server.ts";

const SCRIPT: string = fileURLToPath(new URL("../../scripts/start-radosgw.ts", import.meta.url));

let server: ChildProcess | null = null;
let directory: string | null = null;

export async function setup(project: TestProject): Promise<void> {
  const needed = !isSet(process.env["BOUGH_TEST_S3"]) && (await isNeeded(project));
  if (!needed) return project.provide("s3ServerFile", null);
  directory = mkdtempSync(join(tmpdir(), "bough-s3-server-"));
  const file = join(directory, "state.json");
  project.provide("s3ServerFile", file);
  start((state) => {
    if ("obstacle" in state)
      process.stderr.write(`Tests that need an S3 server are skipped: ${state.obstacle}\n`);
    writeFileSync(`${file}.new`, JSON.stringify(state));
    renameSync(`${file}.new`, file);
  });
}

export async function teardown(): Promise<void> {
  const running = server;
  if (running !== null && running.exitCode === null && running.signalCode === null) {
    const end = new Promise((resolve) => running.once("exit", resolve));
    running.stdin?.end();
    await end;
  }
  if (directory !== null) rmSync(directory, { recursive: true, force: true });
}

/** Whether a file of this run imports s3-server.ts. */
async function isNeeded(project: TestProject): Promise<boolean> {
  const specifications = await project.vitest.getRelevantTestSpecifications(filters(project));
  return specifications.some(({ moduleId }) =>
    readFileSync(moduleId, "utf8").includes('testing/s3-server.ts"'),
  );
}

/** The file names on the command line, which vitest knows and does not tell. */
function filters(project: TestProject): string[] {
  const pattern: unknown = Reflect.get(project.vitest, "filenamePattern");
  return Array.isArray(pattern) ? pattern.filter((part) => typeof part === "string") : [];
}

/** Says once how it went. The server ends with its standard input, so also when this process dies. */
function start(report: (state: S3ServerState) => void): void {
  const child = spawn(process.execPath, ["--import", "tsx", SCRIPT], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  server = child;
  let output = "";
  let errors = "";
  let reported = false;
  const once = (state: S3ServerState): void => {
    if (!reported) report(state);
    reported = true;
  };
  child.stdin.on("error", () => undefined);
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    const url = /^BOUGH_TEST_S3=(.*)\n/m.exec(output)?.[1];
    if (url !== undefined) once({ url });
  });
  child.once("error", (error) => once({ obstacle: error.message }));
  child.once("exit", () => {
    const line = /^Error: ([^]*?)\n {4}at /m.exec(errors)?.[1] ?? errors;
    if (directory !== null) once({ obstacle: line.trim().replaceAll(/\s*\n\s*/g, "; ") });
  });
}
