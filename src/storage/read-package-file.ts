import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Reads a file that an installed package exports, for example `"@scope/name/file.wasm"`. Throws when it is missing. */
export function readPackageFile(specifier: string): Uint8Array<ArrayBuffer> {
  const require = createRequire(import.meta.url);
  const bytes = readFileSync(require.resolve(specifier));
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
