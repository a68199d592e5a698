/** Imports a file into a new store and prints how fast that was and how much memory it took. */
import fs from "node:fs";
import { openStore } from "../../src/store/store.ts";

export interface ImportFacts {
  readonly mibPerSecond: number;
  readonly residentMiB: number;
}

const [directory, file] = [process.argv[2]!, process.argv[3]!];
const store = openStore(directory);
const start = performance.now();
await store.importFile(file, "large");
const seconds = (performance.now() - start) / 1000;
store.close();
const facts: ImportFacts = {
  mibPerSecond: fs.statSync(file).size / 1024 ** 2 / seconds,
  residentMiB: largestResidentKiB() / 1024,
};
process.stdout.write(JSON.stringify(facts));

/** Of this program alone: on Linux getrusage also counts what the parent held when it forked this process. */
function largestResidentKiB(): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1]);
  } catch {
    return process.resourceUsage().maxRSS;
  }
}
