import { describe, expect, test } from "vitest";
import { startBackgroundScrub } from "../store/background-scrub.ts";
import { openStore, type Store } from "../store/store.ts";
import { copyOf, files, makeFixtures, run } from "../testing/repair-fixture.ts";
import type { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Pace, type PaceClock } from "./pace.ts";
import type { CheckProblem } from "./report.ts";

const fixtures = await makeFixtures();

function opened(index: number, damage: (disk: SimulatedStorage) => void = () => {}): Store {
  const { disk, key } = fixtures[index]!;
  const storage = copyOf(disk);
  damage(storage);
  return openStore("store", { ...key, storage });
}

const flipChunk = (disk: SimulatedStorage): void =>
  disk.flipBit(files(disk, "chunks")[0]!, (40 + 100) * 8);
const flipHistory = (disk: SimulatedStorage): void =>
  disk.flipBit(files(disk, "history")[0]!, 100 * 8);

describe("a scrub", () => {
  test("reads everything once and finds nothing in a whole store, whatever is written meanwhile", async () => {
    for (const index of fixtures.keys()) {
      const store = opened(index);
      const positions: string[] = [];
      const report = await store.scrub({
        bytesPerSecond: Infinity,
        onProgress: ({ position }) => {
          positions.push(position);
          if (positions.length > 4) return;
          run(store, "shop", `UPDATE item SET name = '${position}' WHERE id = ${positions.length}`);
          store.checkpoint();
        },
      });
      expect(report).toMatchObject({ ok: true, stoppedAt: null });
      expect(report.counts.chunks).toBeGreaterThan(5);
      expect(report.counts.historySegments).toBeGreaterThan(1);
      expect(report.bytes).toBeGreaterThan(1000);
      expect(new Set(positions).size).toBe(positions.length);
      store.close();
    }
  });

  test("finds damage that the cache hides, and names the revisions that it touches", async () => {
    for (const index of fixtures.keys()) {
      for (const [damage, code] of [
        [flipChunk, "CORRUPT_CHUNK"],
        [flipHistory, "CORRUPT_HISTORY"],
      ] as const) {
        const store = opened(index, damage);
        const { ok, problems } = await store.scrub({ bytesPerSecond: Infinity });
        expect(ok).toBe(false);
        expect(problems.map((problem) => problem.code)).toEqual([code]);
        const { problems: checked } = await store.check();
        expect(problems[0]?.message).toBe(checked[0]?.message);
        expect(checked[0]?.revisions).toEqual(expect.arrayContaining([...problems[0]!.revisions]));
        expect(problems[0]?.revisions.length).toBeGreaterThan(0);
        store.engine.state.log.closeSync();
      }
    }
  });

  test("stops when told, and goes on from there", async () => {
    const store = opened(0);
    const whole = await store.scrub({ bytesPerSecond: Infinity });
    let bytes = 0;
    let startAfter: string | undefined;
    let rounds = 0;
    for (;;) {
      const controller = new AbortController();
      const part = await store.scrub({
        bytesPerSecond: Infinity,
        signal: controller.signal,
        startAfter,
        onProgress: () => controller.abort(),
      });
      bytes += part.bytes;
      if (part.stoppedAt === null) break;
      startAfter = part.stoppedAt;
      rounds++;
    }
    expect(bytes).toBe(whole.bytes);
    expect(rounds).toBeGreaterThan(5);
    await expect(store.scrub({ startAfter: "nowhere" })).rejects.toThrow(RangeError);
    await expect(store.scrub({ bytesPerSecond: 0 })).rejects.toThrow(RangeError);
    store.close();
  });

  test("in the background tells each damage, and ends with the store", async () => {
    const store = opened(0, flipChunk);
    const problem = await new Promise<CheckProblem>((resolve) => {
      startBackgroundScrub(() => store.engine.state, {
        bytesPerSecond: Infinity,
        onDamage: resolve,
      });
    });
    expect(problem.code).toBe("CORRUPT_CHUNK");
    expect(problem.revisions).toContain("shop");
    store.engine.state.log.closeSync();
  });

  test("by the option of the store", async () => {
    const { disk, key } = fixtures[0]!;
    const storage = copyOf(disk);
    flipHistory(storage);
    let store: Store | null = null;
    const code = await new Promise<string>((resolve) => {
      store = openStore("store", {
        ...key,
        storage,
        scrubBytesPerSecond: Infinity,
        onDamage: (problem) => resolve(problem.code),
      });
    });
    expect(code).toBe("CORRUPT_HISTORY");
    expect(store).not.toBeNull();
    expect(() => openStore("s", { storage, scrubBytesPerSecond: -1 })).toThrow(RangeError);
  });
});

describe("the pace", () => {
  class TestClock implements PaceClock {
    nowMs = 0;
    readonly sleeps: number[] = [];

    now(): number {
      return this.nowMs;
    }

    async sleep(ms: number): Promise<void> {
      await Promise.resolve();
      this.sleeps.push(ms);
      this.nowMs += ms;
    }
  }

  test("is kept over many reads", async () => {
    const clock = new TestClock();
    const pace = new Pace(1000, clock);
    for (let read = 0; read < 50; read++) {
      clock.nowMs += read % 3; // The reading itself takes time.
      await pace.spend(100);
    }
    expect(clock.nowMs).toBeCloseTo(5000, 0);
  });

  test("makes up for no more than a second of being late", async () => {
    const clock = new TestClock();
    const pace = new Pace(1000, clock);
    clock.nowMs = 60_000;
    for (let read = 0; read < 30; read++) await pace.spend(100);
    expect(clock.nowMs).toBeGreaterThanOrEqual(62_000);
  });
});
