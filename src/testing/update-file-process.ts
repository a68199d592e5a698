/** Appends lines to a file, each by a change of its own: PATH NAME COUNT. */
import { updateFileSync } from "../storage/update-file.ts";

const [path = "", name = "", count = "0"] = process.argv.slice(2);
for (let index = 0; index < Number(count); index++)
  updateFileSync(path, (bytes) =>
    Buffer.concat([bytes ?? new Uint8Array(), Buffer.from(`${name}${index}\n`)]),
  );
