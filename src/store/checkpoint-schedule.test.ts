import { expect, test, vi } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore, type Store } from "./store.ts";

const MINUTE = 60_000;

function rootsOf(store: Store): number[] {
  const { catalog } = store.engine.state;
  return [...catalog.roots(1, 1, { from: 0, to: Infinity })].map(({ version }) => version);
}

/** Lets the event loop run until nothing is left that was scheduled for it. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test("a checkpoint begins when the oldest commit outside of one is as old as the interval", async () => {
  let clock = 0;
  const storage = new SimulatedStorage();
  const options = { storage, backend: "memory", now: () => clock } as const;
  const store = openStore("", { ...options, checkpointIntervalMs: 30 * MINUTE });
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item(x)");
  for (let count = 0; count < 10; count++) {
    clock += 10 * MINUTE;
    connection.exec("INSERT INTO item VALUES (1)");
    await turns();
  }
  // At 0:30 and 1:00 after the first commit outside: with versions 4 and 8.
  expect(rootsOf(store)).toEqual([4, 8]);
  connection.close();
  store.close();
});

test("the last commits before a pause get theirs from a timer, which ends with the store", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const storage = new SimulatedStorage();
    const options = { storage, backend: "memory", now: () => 0 } as const;
    const store = openStore("", { ...options, checkpointIntervalMs: 30 * MINUTE });
    store.createDatabase("shop");
    const connection = store.connect("shop");
    connection.exec("CREATE TABLE item(x)");
    vi.advanceTimersByTime(30 * MINUTE - 1);
    await turns();
    expect(rootsOf(store)).toEqual([]);
    vi.advanceTimersByTime(1);
    await turns();
    expect(rootsOf(store)).toEqual([1]);
    connection.exec("INSERT INTO item VALUES (1)");
    expect(vi.getTimerCount()).toBe(1);
    connection.close();
    store.close();
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test("an interval that is none is refused", () => {
  const storage = new SimulatedStorage();
  for (const checkpointIntervalMs of [0, -1, 1.5, NaN])
    expect(() => openStore("", { storage, checkpointIntervalMs })).toThrow("checkpointIntervalMs");
});
