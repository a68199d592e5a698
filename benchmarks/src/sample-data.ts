/** The same rows for both sides, in every run: a seeded generator, and real text out of the installed packages. */
import fs from "node:fs";
import path from "node:path";

/** mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export interface Customer {
  readonly id: number;
  readonly name: string;
  readonly email: string;
  readonly region: string;
  readonly amount: number;
  readonly visits: number;
}

const REGIONS = ["north", "south", "east", "west", "centre", "coast", "islands", "hills"];
const SYLLABLES = ["ka", "lo", "mi", "ren", "tos", "va", "shi", "bel", "dor", "an", "ey", "qui"];

export function customers(count: number, seed = 1): Customer[] {
  const random = seededRandom(seed);
  const pick = (from: readonly string[]): string => from[Math.floor(random() * from.length)]!;
  return Array.from({ length: count }, (_, index) => {
    const name = `${pick(SYLLABLES)}${pick(SYLLABLES)} ${pick(SYLLABLES)}${pick(SYLLABLES)}${pick(SYLLABLES)}`;
    return {
      id: index + 1,
      name,
      email: `${name.replace(" ", ".")}${index}@example.com`,
      region: pick(REGIONS),
      amount: Math.round(random() * 1e6) / 100,
      visits: Math.floor(random() * 500),
    };
  });
}

export const CUSTOMER_TABLE =
  "CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, email TEXT, region TEXT, amount REAL, visits INTEGER)";
export const INSERT_CUSTOMER = "INSERT INTO customer VALUES (?, ?, ?, ?, ?, ?)";

export function customerValues(row: Customer): readonly (string | number)[] {
  return [row.id, row.name, row.email, row.region, row.amount, row.visits];
}

export function randomIds(count: number, max: number, seed = 2): Int32Array {
  const random = seededRandom(seed);
  return Int32Array.from({ length: count }, () => 1 + Math.floor(random() * max));
}

/** Real prose: the README files of the packages around the project; the same for everyone with the same lock file. */
export class Prose {
  readonly #text: string;
  readonly #random: () => number;

  constructor(root: string, seed = 3) {
    this.#text = readProse(root);
    this.#random = seededRandom(seed);
  }

  /** `length` characters from somewhere in the text. */
  passage(length: number): string {
    const start = Math.floor(this.#random() * (this.#text.length - length));
    return this.#text.slice(start, start + length);
  }
}

function readProse(root: string): string {
  const modules = path.join(root, "node_modules");
  const parts: string[] = [];
  for (const name of fs.readdirSync(modules).sort()) {
    const file = path.join(modules, name, "README.md");
    if (fs.existsSync(file))
      parts.push(fs.readFileSync(file, "latin1").replace(/[^\x20-\x7e\n]/g, " "));
  }
  const text = parts.join("\n");
  if (text.length < 200_000)
    throw new Error(`Cannot find text: only ${text.length} bytes of README.md in "${modules}"`);
  return text;
}
