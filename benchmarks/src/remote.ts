/** Object storage: what uploading costs commits, what is stored and uploaded, a cold query, and cached pages of a lazy store. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { RemoteOptions } from "../../src/store/remote-options.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import type { ColdTimes } from "./cold-query-process.ts";
import { largeStore } from "./large-store.ts";
import {
  compare,
  fact,
  median,
  type ResultRow,
  type Sample,
  timed,
  timedAsync,
} from "./measure.ts";
import { type ObjectPlaces, openPlaces } from "./object-storage.ts";
import { fillCustomers } from "./reads.ts";
import { customers, customerValues, INSERT_CUSTOMER, randomIds } from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import { inTransaction, type Sides } from "./sides.ts";

const TABLE_ROWS = 100_000;
const ITEMS = ["remote-commit", "remote-bytes", "remote-cold", "remote-cached"];

export async function benchRemote(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  if (!ITEMS.some((item) => settings.includes(item))) return [];
  const places = await openPlaces(sides.workspace);
  const rows: ResultRow[] = [];
  const add = (row: ResultRow): void => {
    rows.push(row);
    settings.show(row);
  };
  try {
    if (settings.includes("remote-commit"))
      for (const row of await uploadedCommits(sides, settings, places)) add(row);
    if (settings.includes("remote-bytes"))
      for (const row of await uploadedBytes(sides, settings, places)) add(row);
    if (settings.includes("remote-cold") && !settings.isQuick)
      for (const row of await coldQuery(sides, settings, places)) add(row);
    if (settings.includes("remote-cached")) add(await cachedReads(sides, settings, places));
  } finally {
    await places.stop();
  }
  return rows;
}

/** Durable single-row commits, one after the other and by 64 writers, with upload and without. */
async function uploadedCommits(
  sides: Sides,
  settings: Settings,
  places: ObjectPlaces,
): Promise<ResultRow[]> {
  const commits = settings.isQuick ? 3000 : 20_000;
  const open = (remote: RemoteOptions | null): Store => {
    const store = openStore(sides.workspace.path("store"), { remote });
    store.createDatabase("data");
    fillCustomers(store.connect("data"), TABLE_ROWS);
    return store;
  };
  const local = open(null);
  const uploaded = open(places.newPlace());
  await uploaded.upload();
  const baselineName = "without upload";
  const one = (store: Store): (() => Promise<Sample>) => {
    const connection = store.connect("data");
    const update = connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?");
    const ids = randomIds(commits, TABLE_ROWS, 5);
    // The event loop has its turns, as in a server: otherwise nothing would be uploaded meanwhile.
    return () =>
      timedAsync(commits, async () => {
        for (let index = 0; index < commits; index++) {
          update.run(ids[index]!);
          if (index % 20 === 19) await new Promise((resolve) => setImmediate(resolve));
        }
      });
  };
  const many = (store: Store): (() => Promise<Sample>) => {
    const connection = store.connect("data");
    const update = connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?");
    const ids = randomIds(commits, TABLE_ROWS, 6);
    return () =>
      timedAsync(commits, async () => {
        let next = 0;
        const writer = async (): Promise<void> => {
          while (next < commits) {
            const id = ids[next++]!;
            await connection.durably(() => update.run(id));
          }
        };
        await Promise.all(Array.from({ length: 64 }, writer));
      });
  };
  const options = { rounds: settings.rounds, wanted: 0.9 };
  const rows = [
    await compare(
      {
        item: "remote-commit-one",
        title: `Durable single-row commits, uploaded to ${places.name} every second`,
        unit: "commits/s",
      },
      { bough: one(uploaded), sqlite: one(local) },
      options,
    ),
    await compare(
      {
        item: "remote-commit-64",
        title: `64 asynchronous writers, uploaded to ${places.name} every second`,
        unit: "commits/s",
      },
      { bough: many(uploaded), sqlite: many(local) },
      options,
    ),
  ];
  await uploaded.upload();
  await uploaded.closeAsync();
  await local.closeAsync();
  return rows.map((row) => ({ ...row, baselineName }));
}

interface Bytes {
  readonly commits: number;
  readonly pages: number;
  readonly stored: number;
  readonly uploaded: number;
  readonly slices: number;
}

async function uploadedBytes(
  sides: Sides,
  settings: Settings,
  places: ObjectPlaces,
): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  const day = settings.isQuick ? 3600 : 86_400;
  const branches = settings.isQuick ? 100 : 1000;
  const work: [string, string, (store: Store, clock: Clock) => Promise<void>][] = [
    ["load", "sequential load, 100 rows a commit", loadRows(settings.isQuick ? 100 : 1000)],
    ["update", "random updates, 1 row a commit", updateRows(settings.isQuick ? 500 : 5000)],
    ["day", `one row updated each second, ${day} commits kept in full`, updateOne(day)],
  ];
  for (const [item, title, run] of work) {
    const { commits, pages, stored, uploaded } = await measureBytes(sides, places, run);
    const row = (part: string, what: string, value: number): ResultRow =>
      fact({ item: `remote-bytes-${item}-${part}`, title: `${title}: ${what}`, unit: "B" }, value);
    rows.push(
      row("stored", "stored a commit", stored / commits),
      row("stored-page", "stored a changed page", stored / pages),
      row("uploaded", "uploaded a commit", uploaded / commits),
      row("uploaded-page", "uploaded a changed page", uploaded / pages),
    );
  }
  const { stored, uploaded } = await measureBytes(sides, places, forkBranches(branches));
  rows.push(
    fact(
      {
        item: "remote-bytes-branch-stored",
        title: `${branches} branches with one changed row each: stored a branch`,
        unit: "B",
      },
      stored / branches,
      { max: 8192 },
    ),
    fact(
      {
        item: "remote-bytes-branch-uploaded",
        title: `${branches} branches with one changed row each: uploaded a branch`,
        unit: "B",
      },
      uploaded / branches,
      { max: 8192 },
    ),
  );
  return rows;
}

class Clock {
  ms = Date.now();
}

/** What the work adds to a store with a table of 100,000 rows, checkpointed and uploaded before and after. */
async function measureBytes(
  sides: Sides,
  places: ObjectPlaces,
  run: (store: Store, clock: Clock) => Promise<void>,
): Promise<Bytes> {
  const clock = new Clock();
  const directory = sides.workspace.path("store");
  const store = openStore(directory, {
    remote: { ...places.newPlace(), flushIntervalMs: 1e9 },
    now: () => clock.ms,
    gc: "off",
  });
  store.createDatabase("data");
  fillCustomers(store.connect("data"), TABLE_ROWS);
  store.checkpoint();
  await store.upload();
  const before = { size: keptSize(directory), ...store.uploadStatus!.statistics };
  await run(store, clock);
  store.checkpoint();
  await store.upload();
  const after = { size: keptSize(directory), ...store.uploadStatus!.statistics };
  let commits = 0;
  let pages = 0;
  for (const branch of store.database("data").branches())
    for (const commit of branch.log()) {
      commits++;
      pages += commit.changedPages;
    }
  await store.closeAsync();
  return {
    commits,
    pages,
    stored: after.size - before.size,
    uploaded: after.bytes - before.bytes,
    slices: after.slices - before.slices,
  };
}

/** Without the log, whose files are preallocated and used again, and what waits to be uploaded. */
function keptSize(directory: string): number {
  return ["chunks", "history", "catalog"]
    .map((name) => path.join(directory, name))
    .filter((folder) => fs.existsSync(folder))
    .flatMap((folder) => fs.readdirSync(folder).map((name) => path.join(folder, name)))
    .reduce((sum, file) => sum + fs.statSync(file).blocks * 512, 0);
}

function loadRows(commits: number): (store: Store, clock: Clock) => Promise<void> {
  return async (store, clock) => {
    const connection = store.connect("data");
    const insert = connection.prepare(INSERT_CUSTOMER);
    const data = customers(commits * 100, 9);
    let id = TABLE_ROWS;
    for (let commit = 0; commit < commits; commit++) {
      clock.ms += 100;
      inTransaction(connection, () => {
        for (let row = 0; row < 100; row++)
          insert.run(...customerValues({ ...data[commit * 100 + row]!, id: ++id }));
      });
      if (commit % 100 === 99) await store.upload();
    }
    connection.close();
  };
}

function updateRows(commits: number): (store: Store, clock: Clock) => Promise<void> {
  return async (store, clock) => {
    const connection = store.connect("data");
    const update = connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?");
    for (const [index, id] of randomIds(commits, TABLE_ROWS, 5).entries()) {
      clock.ms += 10;
      update.run(id);
      if (index % 100 === 99) await store.upload();
    }
    connection.close();
  };
}

/** Uploaded once a minute of the clock, with the checkpoint that each hour brings. */
function updateOne(commits: number): (store: Store, clock: Clock) => Promise<void> {
  return async (store, clock) => {
    const connection = store.connect("data");
    const update = connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = 500");
    for (let index = 0; index < commits; index++) {
      clock.ms += 1000;
      update.run();
      if (index % 60 === 59) await store.upload();
    }
    connection.close();
  };
}

function forkBranches(count: number): (store: Store) => Promise<void> {
  return async (store) => {
    const database = store.database("data");
    for (const [index, id] of randomIds(count, TABLE_ROWS, 7).entries()) {
      const branch = database.createBranch(`branch-${index}`);
      const connection = store.connect(branch.revision);
      connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?").run(id);
      connection.close();
      if (index % 100 === 99) await store.upload();
    }
  };
}

/** A database of 1 GiB that was uploaded: a fresh process follows it with an empty cache and asks for one row. */
async function coldQuery(
  sides: Sides,
  settings: Settings,
  places: ObjectPlaces,
): Promise<ResultRow[]> {
  const place = places.newPlace();
  const store = openStore(largeStore(sides.workspace), {
    remote: { ...place, timeoutMs: 600_000 },
    gc: "off",
  });
  await store.upload();
  await store.closeAsync();
  const script = fileURLToPath(new URL("cold-query-process.js", import.meta.url));
  const runs: ColdTimes[] = [];
  for (let round = 0; round < settings.rounds; round++) {
    const directory = sides.workspace.path("follower");
    runs.push(
      JSON.parse(
        execFileSync(process.execPath, [script, JSON.stringify({ place, directory })], {
          encoding: "utf8",
        }),
      ) as ColdTimes,
    );
  }
  const of = (part: keyof ColdTimes, title: string, unit: string): ResultRow =>
    fact(
      { item: `remote-cold-${part}`, title: `1 GiB in ${places.name}, cold cache: ${title}`, unit },
      median(runs.map((run) => run[part])),
    );
  return [
    of("openMs", "open", "ms"),
    of("openRequests", "requests to open", "requests"),
    of("queryMs", "first query of a row by its key", "ms"),
    of("queryRequests", "requests of it", "requests"),
    of("queryBytes", "bytes fetched by open and query", "B"),
    of("nextMs", "another row, elsewhere", "ms"),
    of("nextRequests", "requests of it", "requests"),
  ];
}

/** Point reads of a store whose packs are in object storage, once its pages are cached, and of one on disk. */
async function cachedReads(
  sides: Sides,
  settings: Settings,
  places: ObjectPlaces,
): Promise<ResultRow> {
  const place = places.newPlace();
  const local = openStore(sides.workspace.path("store"), { remote: place });
  local.createDatabase("data");
  fillCustomers(local.connect("data"), TABLE_ROWS);
  local.checkpoint();
  await local.upload();
  const lazy = openStore(place.url, {
    remote: place,
    directory: sides.workspace.path("follower"),
    pollIntervalMs: 1e9,
  });
  const reads = settings.isQuick ? 100_000 : 500_000;
  const ids = randomIds(reads, TABLE_ROWS, 4);
  const read = (store: Store): (() => Sample) => {
    const connection = store.connect("data");
    const select = connection.prepare("SELECT * FROM customer WHERE id = ?");
    return () =>
      timed(reads, () => {
        for (let index = 0; index < reads; index++) select.get(ids[index]!);
      });
  };
  const row = await compare(
    {
      item: "remote-cached",
      title: "Point reads of a follower, everything cached",
      unit: "reads/s",
    },
    { bough: read(lazy), sqlite: read(local) },
    { rounds: settings.rounds, wanted: 0.98 },
  );
  lazy.close();
  await local.closeAsync();
  return { ...row, baselineName: "the same on disk" };
}
