/** A process that converts a store from backend to backend until it is killed. Writes each one to standard output. */
import fs from "node:fs";

import { BACKENDS } from "../catalog/backends.ts";
import { convertStore } from "../store/convert-store.ts";

const [, , directory = ""] = process.argv;
for (;;) {
  for (const backend of BACKENDS) {
    convertStore(directory, { backend });
    fs.writeSync(1, `${backend}\n`);
  }
}
