/**
 * Flipped bits and cut files of a whole store: what it reads afterwards is what it was, or an error that says what is
 * damaged. Never other rows, never an empty page, never a SQLite error about a malformed database.
 */
import { describe, expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import type { StoreModel } from "./store-model.ts";
import { SMALL_STORE, Workload } from "./store-workload.ts";
import { expectRows, outlineOf, readRows } from "./verify-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 41 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const TRIES = isLong ? 20_000 : 120;
const KEY = "12".repeat(32);
/** Damage that was found. */
const CODES =
  /^(CORRUPT_(HEADER|LOG|CHUNK|NODE|HISTORY|CATALOG)|STORE_FORMAT|KEY_WRONG|KEY_REQUIRED)$/;

interface Made {
  readonly disk: SimulatedStorage;
  readonly model: StoreModel;
  readonly key: string | null;
}

/** A store that was closed in good order: everything is in the catalog, chunks and history. */
function makeStore(encrypted: boolean): Made {
  const disk = new SimulatedStorage({ seed: SEED });
  let clock = 1_000_000;
  const workload = new Workload({
    random: new Random(SEED),
    key: encrypted ? KEY : null,
    open: (key) => ({
      ...SMALL_STORE,
      storage: disk,
      now: () => (clock += 10),
      ...(key === null ? {} : { key }),
    }),
  });
  workload.start();
  for (let step = 0; step < 60; step++) workload.step();
  workload.store.close();
  return { disk, model: workload.acknowledged, key: workload.keys[0] ?? null };
}

function filesOf(disk: SimulatedStorage): { path: string; size: number }[] {
  return ["", "catalog", "chunks", "history", "log"].flatMap((directory) =>
    disk.listSync(directory).flatMap((name) => {
      const path = directory === "" ? name : `${directory}/${name}`;
      if (disk.listSync(path).length > 0 || ["catalog", "chunks", "history", "log"].includes(path))
        return [];
      const file = disk.openFileSync(path, { mode: "read" });
      const size = file.sizeSync();
      file.closeSync();
      return size === 0 ? [] : [{ path, size }];
    }),
  );
}

/** Every revision that can be read reads its rows; returns the codes of those that cannot. */
function readEverything(store: Store, model: StoreModel): string[] {
  const codes: string[] = [];
  for (const database of model.living()) {
    for (const { branch, commit } of database.revisions()) {
      const revision = `${database.name}/${branch.name}@${commit.version}`;
      const code = codeOf(() => {
        using connection = store.connect(revision);
        expectRows(readRows(connection), commit.rows, revision);
      });
      if (code !== null) codes.push(code);
    }
  }
  return codes;
}

function codeOf(action: () => void): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

/** The codes of what was found; empty when the damage touched nothing that is used. */
function tryDamaged(disk: SimulatedStorage, { model, key }: Made): string[] {
  const found: string[] = [];
  const code = codeOf(() => {
    const options = { ...SMALL_STORE, storage: disk, create: false };
    const store = openStore("", key === null ? options : { ...options, key });
    expect(outlineOf(store)).toBe(model.outline());
    found.push(...readEverything(store, model));
    const closing = codeOf(() => store.close());
    if (closing !== null) found.push(closing);
  });
  return code === null ? found : [code];
}

describe.each([
  ["a plain store", false],
  ["an encrypted store", true],
])("damage to %s", (_, encrypted) => {
  test("is an error or does not show, never other rows", { timeout: 3_600_000 }, () => {
    const made = makeStore(encrypted);
    const files = filesOf(made.disk);
    expect(files.length).toBeGreaterThan(4);
    const random = new Random(SEED);
    const found = new Map<string, number>();
    for (let count = 0; count < TRIES; count++) {
      const disk = made.disk.copyAfterCrash(random);
      const { path, size } = random.pick(files);
      const cuts = random.chance(0.2);
      const at = random.integer(0, size * 8 - 1);
      if (cuts) disk.truncateFile(path, at >> 3);
      else disk.flipBit(path, at);
      const what = `${cuts ? "cut" : "flip"} of "${path}" at ${at >> 3} of ${size}, seed ${SEED}`;
      let codes: string[];
      try {
        codes = tryDamaged(disk, made);
      } catch (error) {
        throw new Error(`After ${what}: ${String(error)}`, { cause: error });
      }
      for (const code of codes) expect(code, what).toMatch(CODES);
      for (const code of codes) found.set(code, (found.get(code) ?? 0) + 1);
    }
    expect([...found.keys()]).toEqual(
      expect.arrayContaining(["CORRUPT_CATALOG", "CORRUPT_CHUNK", "CORRUPT_HISTORY"]),
    );
  });
});
