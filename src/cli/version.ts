import { readPackageFile } from "../storage/read-package-file.ts";

/** Of the installed package. */
export function version(): string {
  const manifest: unknown = JSON.parse(
    Buffer.from(readPackageFile("bough/package.json")).toString("utf8"),
  );
  if (typeof manifest === "object" && manifest !== null && "version" in manifest)
    return String(manifest.version);
  return "unknown";
}
