import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { StoreError } from "../errors.ts";
import { Random } from "../testing/random.ts";
import { SimulatedBucket, SimulatedObjectStore } from "../testing/simulated-object-store.ts";
import { TurnClock } from "../testing/turn-clock.ts";
import type { ObjectStore } from "./object-store.ts";
import { unavailable } from "./remote-error.ts";
import { Retry, type RetryLimits } from "./retry.ts";
import { RetryingObjectStore } from "./retrying-object-store.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const ABSENT = { absent: true } as const;

async function failure(call: Promise<unknown>): Promise<StoreError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error("The call succeeded");
}

function setUp(
  limits: RetryLimits = {},
  seed = 1,
): { below: SimulatedObjectStore; store: ObjectStore } {
  const below = new SimulatedObjectStore({ seed });
  return { below, store: new RetryingObjectStore(below, limits, new TurnClock(seed)) };
}

describe("Retry", () => {
  const passing = (): StoreError => unavailable("ask", "not now");

  test("Y1: only what may pass is repeated, and what was already repeated is not", async () => {
    for (const [error, attempts] of [
      [passing(), 10],
      [new StoreError("REMOTE_UNAVAILABLE", "Cannot ask: no", { retryable: false }), 1],
      [new StoreError("CONDITION_FAILED", "Cannot ask: no"), 1],
      [new StoreError("REMOTE_DENIED", "Cannot ask: no"), 1],
      [new StoreError("TIMEOUT", "Cannot ask: no", { retryable: true }), 1],
      [new TypeError("a bug"), 1],
    ] as const) {
      let count = 0;
      const call = new Retry({}, new TurnClock()).run({ action: "ask" }, async () => {
        count++;
        throw error;
      });
      await expect(call).rejects.toThrow(error.message);
      expect(count, String(error)).toBe(attempts);
    }
    const repeated = await failure(
      new Retry({}, new TurnClock()).run({ action: "ask" }, () => Promise.reject(passing())),
    );
    let count = 0;
    const outer = new Retry({}, new TurnClock()).run({ action: "ask" }, async () => {
      count++;
      throw repeated;
    });
    expect(await failure(outer)).toBe(repeated);
    expect(count).toBe(1);
  });

  test("Y2: pauses are random below a limit that doubles up to its own", async () => {
    const pauses: number[] = [];
    const clock = {
      nowMs: () => 0,
      random: () => 0.5,
      timer: (ms: number, callback: () => void) => {
        if (ms === 1234) return () => undefined;
        pauses.push(ms);
        setImmediate(callback);
        return () => undefined;
      },
    };
    const limits = { attemptMs: 1234, attemptsMax: 7, pauseMs: 100, pauseMsMax: 1000 };
    await failure(new Retry(limits, clock).run({ action: "ask" }, () => Promise.reject(passing())));
    expect(pauses).toEqual([50, 100, 200, 400, 500, 500]);
  });

  test("Y3: the limits of attempts and of time end it", async () => {
    const clock = new TurnClock();
    const few = await failure(
      new Retry({ attemptsMax: 3 }, clock).run({ action: "ask" }, () => Promise.reject(passing())),
    );
    expect(few.details).toEqual({ attempts: 3 });
    expect(few.retryable).toBe(true);
    const startMs = clock.nowMs();
    const limits = { attemptsMax: 1e9, totalMs: 5_000, pauseMs: 100, pauseMsMax: 400 };
    await failure(new Retry(limits, clock).run({ action: "ask" }, () => Promise.reject(passing())));
    expect(clock.nowMs() - startMs).toBeLessThanOrEqual(5_100);
    expect(clock.nowMs() - startMs).toBeGreaterThan(1_000);
  });

  test("Y3: an attempt that does not answer is ended and told so, and the next one may succeed", async () => {
    const ended: unknown[] = [];
    const result = await new Retry({ attemptMs: 200 }, new TurnClock()).run(
      { action: "ask" },
      ({ number, signal }) => {
        if (number === 3) return Promise.resolve("answer");
        return new Promise<string>(() =>
          signal.addEventListener("abort", () => ended.push(signal.reason)),
        );
      },
    );
    expect(result).toBe("answer");
    expect(ended.map(String)).toEqual(
      Array.from({ length: 2 }, () => "StoreError: Cannot ask: no answer within 200 ms"),
    );
  });

  test("Y4: the signal ends an attempt and a pause at once, with its reason", async () => {
    const reason = new Error("enough");
    for (const request of [
      () => new Promise<void>(() => undefined),
      () => Promise.reject(passing()),
    ]) {
      const controller = new AbortController();
      const limits = { attemptMs: 1e9, pauseMs: 1e9, pauseMsMax: 1e9, totalMs: 1e12 };
      const call = new Retry(limits, new TurnClock(3)).run(
        { action: "ask", signal: controller.signal },
        request,
      );
      setImmediate(() => setImmediate(() => controller.abort(reason)));
      await expect(call).rejects.toBe(reason);
    }
  });

  test("reasons that the platform makes up become CANCELLED and TIMEOUT", async () => {
    const run = (signal: AbortSignal): Promise<unknown> =>
      new Retry({}, new TurnClock()).run({ action: "ask", signal }, () => Promise.resolve(1));
    expect((await failure(run(AbortSignal.abort()))).code).toBe("CANCELLED");
    const late = new DOMException("late", "TimeoutError");
    expect((await failure(run(AbortSignal.abort(late)))).code).toBe("TIMEOUT");
  });
});

describe("RetryingObjectStore", () => {
  test("R1: a conditional put whose answer was lost succeeds when the object is its own", async () => {
    const { below, store } = setUp();
    below.faults = { loseAnswer: 1 };
    const pending = store.put("manifest", text("mine"), { condition: ABSENT });
    await until(() => below.bucket.keys().length > 0);
    below.faults = {};
    const { etag } = await pending;
    expect((await store.get("manifest"))?.etag).toBe(etag);
  });

  test("R1: it fails when the object is another's", async () => {
    const { below, store } = setUp();
    below.faults = { failBefore: 1 };
    const pending = store.put("manifest", text("mine"), { condition: ABSENT });
    await until(() => below.counts.put > 1);
    below.bucket.store("manifest", text("theirs"));
    below.faults = {};
    expect((await failure(pending)).code).toBe("CONDITION_FAILED");
  });

  test("R1: without an earlier attempt equal bytes are another's all the same", async () => {
    const { below, store } = setUp();
    below.bucket.store("manifest", text("same"));
    expect((await failure(store.put("manifest", text("same"), { condition: ABSENT }))).code).toBe(
      "CONDITION_FAILED",
    );
    expect(below.counts.get).toBe(0);
  });

  test("R1: writers on many machines, half of whose calls fail, count without losing one", async () => {
    const bucket = new SimulatedBucket();
    const faults = { failBefore: 0.2, loseAnswer: 0.3, hang: 0.02, late: 0.02, turnsMax: 4 };
    const limits = { attemptsMax: 1000, totalMs: 1e9, pauseMs: 20, attemptMs: 500 };
    const effects: string[] = [];
    const writer = async (name: number): Promise<void> => {
      const below = new SimulatedObjectStore({ bucket, faults, seed: name });
      const store = new RetryingObjectStore(below, limits, new TurnClock(name));
      for (let done = 0; done < 10;) {
        const last = await store.get("count");
        const entry = `${name}.${done}`;
        const lines = last === null ? [] : new TextDecoder().decode(last.body).split(" ");
        const condition = last === null ? ABSENT : { etag: last.etag };
        try {
          await store.put("count", text([...lines, entry].join(" ")), { condition });
        } catch (error) {
          if (!(error instanceof StoreError && error.code === "CONDITION_FAILED")) throw error;
          // It may have been one's own, and somebody may have gone on from it: look before trying again.
          const now = new TextDecoder().decode((await store.get("count"))?.body);
          if (!now.split(" ").includes(entry)) continue;
        }
        effects.push(entry);
        done++;
      }
    };
    await Promise.all([1, 2, 3, 4].map(writer));
    const lines = new TextDecoder().decode(bucket.body("count")).split(" ");
    expect(lines).toHaveLength(40);
    expect(lines.toSorted()).toEqual(effects.toSorted());
  });

  test("R3: a list that fails, or hangs, at any page goes on where it was", async () => {
    for (let seed = 0; seed < 30; seed++) {
      const { below, store } = setUp({ attemptsMax: 1000, totalMs: 1e9, attemptMs: 300 }, seed);
      const keys = Array.from({ length: 150 }, (_, index) => `k/${String(index).padStart(3, "0")}`);
      for (const key of keys) below.bucket.store(key, text(key));
      below.faults = { failBefore: 0.3, hang: 0.2, loseAnswer: 0.1, turnsMax: 3 };
      const found: string[] = [];
      for await (const { key } of store.list("k/")) found.push(key);
      expect(found, `seed ${seed}`).toEqual(keys);
    }
  });

  test("a service that is down for a while costs time and nothing else", async () => {
    const { below, store } = setUp();
    below.down = true;
    const put = store.put("x", text("x"));
    await until(() => below.counts.put === 4);
    below.down = false;
    await put;
    expect(below.bucket.keys()).toEqual(["x"]);
  });

  test("a service that stays down is REMOTE_UNAVAILABLE, retryable, and says what was asked of whom", async () => {
    const { below, store } = setUp({ attemptsMax: 4 });
    below.down = true;
    for (const [call, what] of [
      [() => store.put("a/b", text("x")), 'put object "a/b"'],
      [() => store.get("a/b"), 'get object "a/b"'],
      [() => store.delete(["a/b"]), "delete 1 objects"],
    ] as const) {
      const error = await failure(call());
      expect(error).toMatchObject({ code: "REMOTE_UNAVAILABLE", retryable: true });
      expect(error.message).toContain(`Cannot ${what} in simulated://bucket: the service is down`);
    }
  });

  test("random work on a failing service leaves what the same work leaves on a good one", async () => {
    const action = fc.record({
      kind: fc.constantFrom("put", "create", "replace", "delete", "list"),
      key: fc.constantFrom("a", "b/1", "b/2", "c"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 25 }), fc.nat(1e6), async (actions, seed) => {
        const { below, store } = setUp(
          { attemptsMax: 1000, totalMs: 1e9, attemptMs: 300, pauseMs: 10 },
          seed,
        );
        below.faults = { failBefore: 0.2, loseAnswer: 0.2, hang: 0.03, cutShort: 0.2 };
        const model = new Map<string, string>();
        const random = new Random(seed);
        for (const { kind, key } of actions) {
          // Unique, as R1 asks for.
          const body = `${kind} ${random.nextUint32()}`;
          if (kind === "delete") {
            await store.delete([key]);
            model.delete(key);
          } else if (kind === "list") {
            const found: string[] = [];
            for await (const object of store.list("")) found.push(object.key);
            expect(found).toEqual([...model.keys()].toSorted());
          } else {
            const there = await store.get(key);
            expect(there === null ? undefined : new TextDecoder().decode(there.body)).toBe(
              model.get(key),
            );
            const options =
              kind === "create"
                ? { condition: ABSENT }
                : kind === "replace" && there !== null
                  ? { condition: { etag: there.etag } }
                  : {};
            if (kind === "create" && there !== null)
              expect((await failure(store.put(key, text(body), options))).code).toBe(
                "CONDITION_FAILED",
              );
            else {
              await store.put(key, text(body), options);
              model.set(key, body);
            }
          }
        }
      }),
      { numRuns: 60, ...seedOption() },
    );
  });
});

function seedOption(): { seed?: number } {
  const seed = process.env["BOUGH_TEST_SEED"];
  return seed === undefined ? {} : { seed: Number(seed) };
}

async function until(check: () => boolean): Promise<void> {
  while (!check()) await new Promise((resolve) => setImmediate(resolve));
}
