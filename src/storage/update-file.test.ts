import { spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createPrivateFileSync } from "./private-file.ts";
import { currentProcessIdentity } from "./process-identity.ts";
import { updateFileSync } from "./update-file.ts";
import { testProgram } from "../testing/test-program.ts";

const PROGRAM = testProgram(new URL("../testing/update-file-process.ts", import.meta.url));
let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-update-"));
  path = join(directory, "list");
});

afterEach(() => rmSync(directory, { recursive: true }));

const append = (line: string): void =>
  updateFileSync(path, (bytes) =>
    Buffer.concat([bytes ?? new Uint8Array(), Buffer.from(`${line}\n`)]),
  );

function ended(child: ReturnType<typeof spawn>): Promise<number | null> {
  return new Promise((resolve) => {
    child.on("exit", resolve);
  });
}

test("changes by several processes at once are all kept", async () => {
  const names = ["a", "b", "c"];
  const children = names.map((name) =>
    spawn(process.execPath, [PROGRAM, path, name, "30"], { stdio: "inherit" }),
  );
  expect(await Promise.all(children.map(ended))).toEqual([0, 0, 0]);
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  expect(lines.sort()).toEqual(
    names.flatMap((name) => Array.from({ length: 30 }, (_, index) => `${name}${index}`)).sort(),
  );
  expect(readdirSync(directory)).toEqual(["list"]);
}, 60_000);

test("a lock left by a process that is dead does not block, and what it left is removed", async () => {
  const child = spawn(process.execPath, ["-e", ""]);
  await ended(child);
  const holder = { ...currentProcessIdentity(), pid: child.pid, startTicks: null, nonce: "dead" };
  writeFileSync(`${path}.lock`, JSON.stringify(holder));
  writeFileSync(`${path}.lock.0123`, JSON.stringify(holder));
  append("x");
  expect(readFileSync(path, "utf8")).toBe("x\n");
  expect(readdirSync(directory)).toEqual(["list"]);
});

test("a change that throws, or gives nothing, leaves the file and no lock", () => {
  append("x");
  expect(() =>
    updateFileSync(path, () => {
      throw new Error("No");
    }),
  ).toThrow("No");
  updateFileSync(path, () => null);
  expect(readFileSync(path, "utf8")).toBe("x\n");
  expect(readdirSync(directory)).toEqual(["list"]);
});

test("a file that another process keeps is FILE_BUSY", () => {
  updateFileSync(path, (bytes) => {
    expect(bytes).toBeNull();
    expect(() => append("y")).toThrow(
      expect.objectContaining({ code: "FILE_BUSY", retryable: true }),
    );
    return Buffer.from("x");
  });
  expect(readFileSync(path, "utf8")).toBe("x");
});

test("a private file is its owner's alone, and never written over another", () => {
  const secret = join(directory, "secret");
  const before = process.umask(0);
  try {
    createPrivateFileSync(secret, Buffer.from("one"));
  } finally {
    process.umask(before);
  }
  expect(statSync(secret).mode & 0o777).toBe(0o600);
  expect(() => createPrivateFileSync(secret, Buffer.from("two"))).toThrow(
    expect.objectContaining({ code: "FILE_EXISTS" }),
  );
  expect(readFileSync(secret, "utf8")).toBe("one");
  const nowhere = join(directory, "nowhere", "secret");
  expect(() => createPrivateFileSync(nowhere, Buffer.from("x"))).toThrow(
    expect.objectContaining({ code: "FILE_NOT_FOUND" }),
  );
  expect(existsSync(nowhere)).toBe(false);
});
