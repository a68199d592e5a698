import { expect, test } from "vitest";
import { Frame, Layer } from "./page-versions.ts";
import { PageBuffers } from "./page-buffers.ts";
import { type BoundLayer, emptySource, Snapshot, View } from "./snapshot.ts";
import type { PageHolder } from "./tracer.ts";

const PAGE_SIZE = 512;

function page(fill: number): Uint8Array {
  return new Uint8Array(PAGE_SIZE).fill(fill);
}

function viewOf(layers: readonly BoundLayer[]): View {
  const context = {
    pageSize: PAGE_SIZE,
    holders: new Set<PageHolder>(),
    readChunkPage: (): Uint8Array => {
      throw new Error("There are no chunks here");
    },
  };
  const base = { ...emptySource, page: () => page(255), cachedPage: () => page(255) };
  return new View(context, layers, base, { version: 0, pageCount: 0, timestampMs: 0 });
}

/** One commit on each of `depth` branches, each made from the one before; page 1 + version % 50 gets the version. */
function chain(depth: number): { view: View; top: Layer } {
  const layers: BoundLayer[] = [];
  for (let version = depth; version >= 1; version--) {
    const layer = new Layer(version);
    layer.push(1 + (version % 50), Frame.ofImage(version, page(version % 250)), null);
    // What the branch went on with after the next one was made from it: not to be seen from there.
    layer.push(60, Frame.ofImage(version + 0.5, page(7)), null);
    layers.push({ layer, maxVersion: version });
  }
  const top = new Layer(depth + 1);
  return { view: viewOf([{ layer: top, maxVersion: Infinity }, ...layers]), top };
}

test("a page is found in the nearest of many ancestors, again and again, and under later commits", () => {
  const { view, top } = chain(200);
  for (let round = 0; round < 2; round++) {
    for (let number = 1; number <= 50; number++) {
      const newest = 151 + ((number - 1 - 151 + 200) % 50);
      expect(view.page(number, 200)[0], `page ${number}`).toBe(newest % 250);
      expect(view.cachedPage(number, 200)![0]).toBe(newest % 250);
    }
    expect(view.page(60, 200)[0]).toBe(255);
    expect(view.cachedPage(60, 200)![0]).toBe(255);
  }
  top.push(5, Frame.ofImage(201, page(9)), null);
  expect(view.page(5, 201)[0]).toBe(9);
  expect(view.page(5, 200)[0]).toBe(154);
});

test("a page that somebody keeps is not overwritten by later commits", () => {
  const layer = new Layer(1);
  const view = viewOf([{ layer, maxVersion: Infinity }]);
  const buffers = new PageBuffers(PAGE_SIZE);
  const commit = (version: number, fill: number): void => {
    const frame = Frame.ofDelta(version, Uint8Array.of(0, 1, fill), 0, 3);
    frame.image = buffers.copy(page(fill), 0);
    layer.push(1, frame, buffers);
  };
  const snapshot = (version: number): Snapshot =>
    new Snapshot(1, view, { version, pageCount: 1, timestampMs: 0 });
  commit(1, 1);
  const kept = snapshot(1).page(1);
  commit(2, 2);
  const passing = snapshot(2).peek(1);
  expect(passing[0]).toBe(2);
  for (let version = 3; version < 20; version++) commit(version, version);
  expect(kept[0]).toBe(1);
  expect(passing[0], "its memory was used again").not.toBe(2);
  for (let version = 1; version < 20; version++)
    expect(snapshot(version).page(1)[0], `version ${version}`).toBe(version);
});
