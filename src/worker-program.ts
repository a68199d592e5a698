/**
 * Modules of this package as programs of worker threads. Built, they are JavaScript. In the source they are TypeScript, which tsx
 * loads in a second or two; where BOUGH_TEST_COMPILED names a directory in the package's with the same files compiled, as in the tests,
 * those are taken.
 */
import { dirname, relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker, type WorkerOptions } from "node:worker_threads";

const IS_SOURCE = import.meta.url.endsWith(".ts");

/** URL of the module `name`, without extension, in the folder of the module `from`. */
export function siblingModule(name: string, from: string): string {
  return runnableModule(new URL(`./${name}${IS_SOURCE ? ".ts" : ".js"}`, from).href);
}

/** URL of what a worker loads for a module: the compiled one, where there is one. */
export function runnableModule(url: string): string {
  const compiled = process.env["BOUGH_TEST_COMPILED"];
  if (compiled === undefined || !url.endsWith(".ts")) return url;
  const path = relative(dirname(compiled), fileURLToPath(url));
  if (path.startsWith(`..${sep}`)) return url;
  return pathToFileURL(`${compiled}${sep}${path.slice(0, -".ts".length)}.js`).href;
}

/** `url` is that of a module, of this package or made for a test. */
export function startWorker(url: string, options: WorkerOptions): Worker {
  const runnable = runnableModule(url);
  // A process that runs sources, or tests, has loaders among its parameters.
  const isPlain = !IS_SOURCE && process.env["BOUGH_TEST_COMPILED"] === undefined;
  const whole = isPlain ? options : { ...options, execArgv: [] };
  if (!runnable.endsWith(".ts")) return new Worker(new URL(runnable), whole);
  const tsx = import.meta.resolve("tsx/esm/api");
  const source = `import("${tsx}").then(({ register }) => (register(), import("${runnable}")))`;
  return new Worker(source, { ...whole, eval: true });
}
