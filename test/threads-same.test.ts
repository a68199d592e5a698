/** A store with threads does what one without does: the same cases, noted and compared. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";
import { CASES, type SharedStore, SHOP_SCHEMA } from "./threads-cases.ts";

// Starting a thread takes long where all cores are busy.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

let directory = "";
let plain: Store;
let threaded: ThreadedStore;
let databases = 0;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "bough-threads-"));
  plain = openStore(join(directory, "plain"));
  threaded = ThreadedStore.open(join(directory, "threaded"), { threads: 2 });
  await threaded.opened;
});

afterAll(async () => {
  await plain.closeAsync();
  await threaded.close();
  rmSync(directory, { recursive: true, force: true });
});

/** The case's "shop" is a database of its own. */
async function seenIn(store: SharedStore, name: string): Promise<unknown[]> {
  const seen: unknown[] = [];
  const first = await store.open("shop");
  await first.exec(SHOP_SCHEMA);
  await first.close();
  await CASES[name]!(store, (...facts) => void seen.push(facts));
  return seen;
}

beforeEach(async () => {
  for (const store of [plain, threaded]) await store.createDatabase("shop");
});

afterEach(async () => {
  const done = `done-${++databases}`;
  for (const store of [plain, threaded]) await (await store.database("shop")).rename(done);
});

for (const name of Object.keys(CASES)) {
  test(name, async () => {
    const expected = await seenIn(plain, name);
    expect(expected.length).toBeGreaterThan(0);
    expect(await seenIn(threaded, name)).toEqual(expected);
  });
}
