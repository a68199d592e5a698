import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { describeObjectStore } from "../testing/object-store-conformance.ts";
import { openObjectStore } from "./open-object-store.ts";

function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), "bough-objects-"));
}

describeObjectStore("A directory", () => {
  const directory = temporaryDirectory();
  return {
    open: () => openObjectStore(pathToFileURL(join(directory, "remote")).href),
    cleanUp: () => rmSync(directory, { recursive: true }),
  };
});
