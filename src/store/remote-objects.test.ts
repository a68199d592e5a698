import { expect, test } from "vitest";
import { RemoteObjects } from "./remote-objects.ts";

test("each path is there once, as the newest that was given, however often lists are put together", () => {
  const path = "chunks/00000001.pack";
  let shown = [{ path, key: "chunks/00000001.1.pack", size: 10 }];
  for (let epoch = 2; epoch <= 50; epoch++) {
    const newest = { path, key: `chunks/00000001.${epoch}.pack`, size: epoch };
    const run = { path: "catalog/a.run", key: "catalog/a.run", size: 5 };
    const objects = new RemoteObjects([newest, run, ...shown]);
    shown = objects.files();
    expect(objects.objectFor(path)).toEqual(newest);
    expect(shown).toEqual([newest, run]);
  }
});
