import { expect, test } from "vitest";
import { CALLS_PER_TURN, TURN_MS, Turns } from "./turns.ts";

/** An event loop that runs when it is told, and what has begun: "database connection number". */
class Loop {
  nowMs = 0;
  /** How long each call takes. */
  callMs = 0;
  begun: string[] = [];
  readonly turns: Turns<string>;
  #queue: (() => void)[] = [];

  constructor() {
    const begin = (call: string): void => {
      this.begun.push(call);
      this.nowMs += this.callMs;
    };
    const later = (next: () => void): void => void this.#queue.push(next);
    this.turns = new Turns(begin, { now: () => this.nowMs, later });
  }

  add(database: string, connection: number, count: number): void {
    for (let number = 0; number < count; number++)
      this.turns.add(database, connection, `${database} ${connection} ${number}`);
  }

  /** One turn; returns what began in it. */
  run(): string[] {
    this.begun = [];
    for (const next of this.#queue.splice(0)) next();
    return this.begun;
  }
}

test("a turn begins a bounded number of calls, in the order in which they were made", () => {
  const loop = new Loop();
  loop.add("hot", 1, 1000);
  expect(loop.begun).toEqual([]);
  const first = loop.run();
  expect(first).toEqual(Array.from({ length: CALLS_PER_TURN }, (_, number) => `hot 1 ${number}`));
  expect(loop.run()[0]).toBe(`hot 1 ${CALLS_PER_TURN}`);
});

test("a database with one call has it begun second, however many wait of another", () => {
  const loop = new Loop();
  loop.add("hot", 1, 1000);
  loop.run();
  loop.add("cold", 2, 1);
  expect(loop.run().indexOf("cold 2 0")).toBeLessThanOrEqual(1);
});

test("databases share the turns evenly, whatever the number of their connections", () => {
  const loop = new Loop();
  for (let connection = 0; connection < 10; connection++) loop.add("many", connection, 100);
  loop.add("one", 99, 100);
  const begun = loop.run();
  expect(begun.filter((call) => call.startsWith("one"))).toHaveLength(CALLS_PER_TURN / 2);
  const ofFirst = begun.filter((call) => call.startsWith("many 0"));
  expect(ofFirst).toEqual(["many 0 0", "many 0 1", "many 0 2", "many 0 3"]);
});

test("a connection with one call waits for one call of each other connection of its database", () => {
  const loop = new Loop();
  loop.add("shop", 1, 1000);
  loop.add("shop", 2, 1000);
  loop.run();
  loop.add("shop", 3, 1);
  expect(loop.run().indexOf("shop 3 0")).toBeLessThanOrEqual(2);
});

test("turns that take long begin fewer calls, down to one, and more again when they are short", () => {
  const loop = new Loop();
  loop.add("hot", 1, 10_000);
  loop.callMs = TURN_MS + 1;
  const sizes = Array.from({ length: 9 }, () => loop.run().length);
  expect(sizes).toEqual([64, 32, 16, 8, 4, 2, 1, 1, 1]);
  loop.add("cold", 2, 1);
  expect([...loop.run(), ...loop.run()]).toContain("cold 2 0");
  loop.callMs = 0;
  expect(Array.from({ length: 5 }, () => loop.run().length)).toEqual([1, 2, 4, 8, 16]);
});

test("all have begun, and it is idle then, and begins again with the next", async () => {
  const loop = new Loop();
  loop.add("shop", 1, 100);
  const begun = loop.turns.allBegun();
  expect([loop.run(), loop.run()].map(({ length }) => length)).toEqual([64, 36]);
  loop.run();
  await begun;
  loop.run();
  expect(loop.run()).toEqual([]);
  loop.add("shop", 1, 1);
  expect(loop.run()).toEqual(["shop 1 0"]);
});
