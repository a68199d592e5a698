import { expect, test } from "vitest";
import { StoreError } from "../../errors.ts";
import { type Job, JobTable, type JobTools } from "./job-table.ts";

class World {
  nowMs = 0;
  readonly bugs: unknown[] = [];
  readonly table: JobTable;

  constructor(bounds: { readonly runningMax?: number; readonly keptMax?: number } = {}) {
    const { bugs } = this;
    const now = (): number => this.nowMs;
    this.table = new JobTable({ ...bounds, now, clock: now, onBug: (bug) => bugs.push(bug) });
  }

  start(work: (tools: JobTools) => Promise<unknown>, isCancellable = true): Job {
    const target = { database: null, branch: null };
    const redact = (error: unknown): unknown => error;
    return this.table.start({ kind: "gc", target, owner: "", isCancellable, work, redact });
  }
}

const forever = ({ signal }: JobTools): Promise<never> =>
  new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error));
  });

test("Z1. No more jobs run than the limit, and the place of one that ended is free", async () => {
  const { table, start } = bound(new World({ runningMax: 2 }));
  const first = start(forever);
  start(forever);
  expect(() => start(forever)).toThrow(expect.objectContaining({ code: "JOB_LIMIT" }));
  first.cancel();
  await first.ended;
  start(forever);
  await table.stop();
  expect(table.list().map(({ facts }) => facts.state)).toEqual(Array(3).fill("cancelled"));
});

test("Z1. The oldest that ended are forgotten, those that run are not", async () => {
  const { table, start } = bound(new World({ keptMax: 2 }));
  const running = start(forever);
  const ids: string[] = [];
  for (let index = 0; index < 4; index++) {
    const job = start(async () => index);
    ids.push(job.id);
    await job.ended;
  }
  const last = start(async () => "last");
  await last.ended;
  expect(table.find(running.id)).toBe(running);
  expect(ids.filter((id) => table.find(id) !== undefined)).toEqual(ids.slice(2));
  await table.stop();
});

test("Z2. Work that is done is done, though it was cancelled; what cannot be cancelled goes on", async () => {
  const { start } = bound(new World());
  const done = start(async () => 1);
  done.cancel();
  await done.ended;
  expect(done.facts.state).toBe("done");
  let finish: (value: unknown) => void = () => {};
  const stubborn = start(async ({ signal }) => {
    await new Promise((resolve) => (finish = resolve));
    return signal.aborted;
  }, false);
  stubborn.cancel();
  finish(null);
  await stubborn.ended;
  expect(stubborn.facts).toMatchObject({ state: "done", result: false });
});

test("Z3. Progress is told at most ten times a second, the end at once", async () => {
  const world = new World();
  let step: (done: number) => void = () => {};
  let finish = (): void => {};
  const job = world.start(async ({ onProgress }) => {
    step = (done) => onProgress({ phase: null, done, total: null });
    await new Promise<void>((resolve) => (finish = resolve));
  });
  const told: unknown[] = [];
  job.listen(() => told.push([job.facts.state, job.facts.progress?.done]));
  for (const [at, done] of [
    [0, 1],
    [50, 2],
    [100, 3],
    [110, 4],
  ] as const) {
    world.nowMs = at;
    step(done);
  }
  finish();
  await job.ended;
  expect(told).toEqual([
    ["running", 1],
    ["running", 3],
    ["done", 4],
  ]);
});

test("a job that fails says why; a bug is told to the log only", async () => {
  const world = new World();
  const failed = world.start(async () => {
    throw new StoreError("DISK_FULL", "Cannot write: no space");
  });
  await failed.ended;
  expect(failed.facts).toMatchObject({ state: "failed", problem: { code: "DISK_FULL" } });
  expect(world.bugs).toEqual([]);
  const bug = new TypeError("secret");
  const broken = world.start(async () => {
    throw bug;
  });
  await broken.ended;
  expect(broken.facts.problem?.code).toBe("INTERNAL");
  expect(JSON.stringify(broken.facts)).not.toContain("secret");
  expect(world.bugs).toEqual([bug]);
});

test("nothing is begun once the table is being stopped", async () => {
  const { table, start } = bound(new World());
  await table.stop();
  expect(() => start(forever)).toThrow(expect.objectContaining({ code: "SERVER_STOPPING" }));
});

function bound(world: World): {
  table: JobTable;
  start: (work: (tools: JobTools) => Promise<unknown>, isCancellable?: boolean) => Job;
} {
  return { table: world.table, start: (...given) => world.start(...given) };
}
