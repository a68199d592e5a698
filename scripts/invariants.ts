/**
 * Keeps docs/invariants.md word for word what the headers of the source files say: `npx tsx scripts/invariants.ts`
 * writes it anew. Its introduction and the "Tried by" lines are written by hand, and kept.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const DOCUMENT = "docs/invariants.md";
const FOLDERS = [
  "storage",
  "encryption",
  "catalog",
  "log",
  "page",
  "btree",
  "branch",
  "remote",
  "sqlite",
  "transaction",
  "checkpoint",
  "retention",
  "integrity",
  "store",
  "server",
  "cli",
  "testing",
];
const root: URL = new URL("../", import.meta.url);

interface Invariant {
  readonly id: string;
  text: string;
}

/** The document as it should be, given the one that is there. */
export function renderInvariants(current: string): string {
  const introduction = current.slice(0, current.indexOf("\n## src/")).trimEnd();
  const sections = FOLDERS.map((folder) => renderFolder(folder, current)).filter(
    (section) => section !== "",
  );
  return `${[introduction, ...sections].join("\n\n")}\n`;
}

export function readDocument(): string {
  return readFileSync(new URL(DOCUMENT, root), "utf8");
}

function renderFolder(folder: string, current: string): string {
  const files = readdirSync(new URL(`src/${folder}/`, root), { recursive: true })
    .map((name) => `src/${folder}/${String(name)}`)
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"))
    .sort();
  const parts = files.flatMap((path) => {
    const found = invariantsOf(readFileSync(new URL(path, root), "utf8"));
    if (found.length === 0) return [];
    const rules = found.map(({ id, text }) => `- **${id}** ${text}`).join("\n");
    return [`### \`${path}\`\n\n${rules}\n\nTried by: ${testsOf(path, current)}`];
  });
  return parts.length === 0 ? "" : [`## src/${folder}`, ...parts].join("\n\n");
}

function invariantsOf(source: string): Invariant[] {
  const found: Invariant[] = [];
  for (const [, block] of source.matchAll(/\/\*\*([\s\S]*?)\*\//g)) {
    let open: Invariant | null = null;
    for (const line of block!.split("\n")) {
      const body = line.replace(/^\s*\* ?/, "");
      const start = /^([A-Z]\d+)\. (.*)$/.exec(body);
      if (start !== null) found.push((open = { id: start[1]!, text: start[2]!.trim() }));
      else if (open !== null && /^\s{3,}\S/.test(body)) open.text += ` ${body.trim()}`;
      else open = null;
    }
  }
  return found;
}

function testsOf(path: string, current: string): string {
  const section = current.split(`### \`${path}\`\n`)[1]?.split("\n##")[0];
  const written = /^Tried by: (.*)$/m.exec(section ?? "")?.[1];
  if (written !== undefined && written !== "none by name") return written;
  const own = path.replace(/\.ts$/, ".test.ts");
  return existsSync(new URL(own, root)) ? `\`${own}\`` : "none by name";
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(new URL(DOCUMENT, root), renderInvariants(readDocument()));
