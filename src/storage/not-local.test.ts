import { expect, test } from "vitest";
import {
  type FetchOptions,
  NotLocalError,
  type PendingFetch,
  readFetching,
  requireLocal,
  waiting,
  waitingAsync,
} from "./not-local.ts";

/** Bytes in three steps, each of which has to be fetched before the next is asked for. */
class Steps implements PendingFetch {
  done = 0;
  readonly limits: FetchOptions[] = [];

  read(): string {
    for (let step = 0; step < 3; step++)
      while (this.done <= step) requireLocal(`step ${step}`, this);
    return "read";
  }

  async fetch(options: FetchOptions = {}): Promise<void> {
    await Promise.resolve();
    this.fetchSync(options);
  }

  fetchSync(options: FetchOptions = {}): void {
    this.limits.push(options);
    this.done++;
  }
}

test("a read says what is missing, until it was fetched", async () => {
  const steps = new Steps();
  expect(() => steps.read()).toThrow(NotLocalError);
  expect(steps.done).toBe(0);
  expect(await readFetching(() => steps.read(), { timeoutMs: 7 })).toBe("read");
  expect(steps.limits).toEqual([{ timeoutMs: 7 }, { timeoutMs: 7 }, { timeoutMs: 7 }]);
});

test("M4: within `waiting` reads wait, under the outermost limits, also after an error", () => {
  const steps = new Steps();
  expect(() =>
    waiting(() => {
      throw new Error("work");
    }),
  ).toThrow("work");
  expect(() => steps.read()).toThrow(NotLocalError);
  const limits = { timeoutMs: 5 };
  expect(waiting(() => waiting(() => steps.read(), { timeoutMs: 9 }), limits)).toBe("read");
  expect(steps.limits).toEqual([limits, limits, limits]);
  expect(() => new Steps().read()).toThrow(NotLocalError);
});

test("M4: within `waitingAsync` reads wait in everything that it awaits, and nobody else's do", async () => {
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const steps = new Steps();
  const work = waitingAsync(
    async () => {
      await turn();
      return steps.read();
    },
    { timeoutMs: 3 },
  );
  expect(() => new Steps().read()).toThrow(NotLocalError);
  await turn();
  expect(() => new Steps().read()).toThrow(NotLocalError);
  expect(await work).toBe("read");
  expect(steps.limits).toEqual([{ timeoutMs: 3 }, { timeoutMs: 3 }, { timeoutMs: 3 }]);
});
