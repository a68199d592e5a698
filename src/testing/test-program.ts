/** Programs that tests run in a process of their own. */
import { fileURLToPath } from "node:url";
import { runnableModule } from "../worker-program.ts";

/** The path that Node is given for a TypeScript file of src/, test/ or examples/: what compile-setup.ts made of it. */
export function testProgram(file: URL): string {
  return fileURLToPath(runnableModule(file.href));
}
