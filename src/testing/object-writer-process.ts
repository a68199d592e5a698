/**
 * Counts in an object of a directory that other processes count in too: `object-writer-process.ts <url> <name> <rounds>`.
 * Prints a line for each round that is done.
 */
import { StoreError } from "../errors.ts";
import { openObjectStore } from "../remote/open-object-store.ts";

const [url = "", name = "", rounds = "0"] = process.argv.slice(2);
const store = openObjectStore(url);

for (let done = 0; done < Number(rounds);) {
  const last = await store.get("count");
  const text = last === null ? "" : new TextDecoder().decode(last.body);
  const body = new TextEncoder().encode(`${text}${name} ${done}\n`);
  const condition = last === null ? ({ absent: true } as const) : { etag: last.etag };
  try {
    await store.put("count", body, { condition });
    process.stdout.write(`${name} ${done}\n`);
    done++;
  } catch (error) {
    if (!(error instanceof StoreError && error.code === "CONDITION_FAILED")) throw error;
  }
}
