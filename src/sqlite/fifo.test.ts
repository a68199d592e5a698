import { expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { Fifo } from "./fifo.ts";

test("things leave in the order in which they came, and those removed never, as of an array", () => {
  const random = new Random(5);
  const fifo = new Fifo<number>();
  const model: number[] = [];
  for (let step = 0; step < 20_000; step++) {
    // By turns it grows and is emptied.
    const isGrowing = Math.floor(step / 1000) % 2 === 0;
    const dice = random.integer(0, 9);
    if (dice === 0 && model.length > 0) {
      const thing = model[random.integer(0, model.length - 1)]!;
      model.splice(model.indexOf(thing), 1);
      fifo.remove(thing);
    } else if (dice < (isGrowing ? 7 : 3)) {
      model.push(step);
      fifo.push(step);
    } else expect(fifo.shift()).toBe(model.shift());
    expect(fifo.size).toBe(model.length);
  }
  fifo.remove(-1);
  while (model.length > 0) expect(fifo.shift()).toBe(model.shift());
  expect([fifo.size, fifo.shift()]).toEqual([0, undefined]);
});
