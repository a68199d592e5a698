/** Stores of format version 1, written once: they open for ever, and every revision reads what it read then. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import { openStore } from "../src/store/store.ts";
import { contentOf, FIXTURE_KEY, type FixtureContent } from "./fixture-content.ts";

const FIXTURES = join(import.meta.dirname, "fixtures/v1");

let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-fixture-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

function keyOf(name: string): { key?: string } {
  return name.startsWith("encrypted") ? { key: FIXTURE_KEY } : {};
}

describe.each(readdirSync(FIXTURES))("fixture v1/%s", (name) => {
  const expected = JSON.parse(
    readFileSync(join(FIXTURES, name, "expected.json"), "utf8"),
  ) as FixtureContent;

  beforeEach(() => {
    cpSync(join(FIXTURES, name, "store"), directory, { recursive: true });
  });

  test("opens, replays its log, and every revision reads what it read", () => {
    expect(expected.revisions.length).toBeGreaterThan(90);
    const store = openStore(directory, keyOf(name));
    expect(contentOf(store)).toEqual(expected);
    store.close();
    const again = openStore(directory, keyOf(name));
    expect(contentOf(again)).toEqual(expected);
    again.close();
  });

  test("can be written, and its old revisions stay", () => {
    let store = openStore(directory, keyOf(name));
    store.database("shop").undeleteBranch("gone");
    const connection = store.connect("shop/gone");
    connection.exec("INSERT INTO item VALUES (1, 'new', 1, randomblob(50000))");
    store.database("shop").createBranch("fork", { from: "shop@4" });
    store.checkpoint();
    store.close();
    store = openStore(directory, keyOf(name));
    const { revisions } = contentOf(store);
    const old = new Map(revisions.map((revision) => [revision.revision, revision]));
    for (const revision of expected.revisions)
      expect(old.get(revision.revision), revision.revision).toEqual(revision);
    const count = store.connect("shop/gone").prepare("SELECT count(*) FROM item").pluck();
    expect(count.get()).toBe(1);
    store.close();
  });

  test("opens with its own key only, or with none where it has none", () => {
    const codes = [{}, { key: "ff".repeat(32) }].map((options) => {
      try {
        openStore(directory, options).close();
        return null;
      } catch (error) {
        return error instanceof StoreError ? error.code : String(error);
      }
    });
    const isEncrypted = name.startsWith("encrypted");
    expect(codes).toEqual([isEncrypted ? "KEY_REQUIRED" : null, "KEY_WRONG"]);
  });
});
