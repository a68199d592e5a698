import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openNodeStorage } from "../storage/node-storage.ts";
import { describeKeyValue } from "../testing/key-value-conformance.ts";
import { openLevel } from "./leveldb-key-value.ts";

describeKeyValue("leveldb", () => {
  const directory = fs.mkdtempSync(join(tmpdir(), "bough-leveldb-"));
  return {
    open: () => openLevel(openNodeStorage(directory), "catalog"),
    cleanUp: () => fs.rmSync(directory, { recursive: true }),
  };
});
