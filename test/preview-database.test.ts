/**
 * The workflow of examples/preview-database, as GitHub would run it for a pull request that is opened, pushed to and closed: its
 * conditions, variables, shell steps and the command that makes its token are those of the files; the server is a real one.
 */
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { CommandDirectory } from "../src/testing/run-command.ts";
import { ServedDirectory } from "./server-fixture.ts";
import { TokenWorld } from "./server-tokens.ts";

const run = promisify(execFile);
const WORKFLOW = readFileSync(example("preview-database.yml"), "utf8");

interface Step {
  readonly name?: string;
  readonly uses?: string;
  readonly if?: string;
  readonly run?: string;
}
interface Workflow {
  readonly on: { readonly pull_request: { readonly types: readonly string[] } };
  readonly jobs: Readonly<
    Record<
      string,
      {
        readonly if: string;
        readonly env: Readonly<Record<string, string>>;
        readonly steps: readonly Step[];
      }
    >
  >;
}
/** What GitHub knows when it runs a workflow, by the names that expressions have for it. */
type Facts = Readonly<Record<string, string>>;

function example(name: string): string {
  return fileURLToPath(new URL(`../examples/preview-database/${name}`, import.meta.url));
}

/** `path`, `'text'`, `a == b`, `a != b`: all that the workflow has. Throws for anything else. */
function evaluate(expression: string, facts: Facts): string | boolean {
  const [left = "", operator, right = ""] = expression.split(/ (==|!=) /);
  const operand = (text: string): string => {
    const [, literal] = /^'([^']*)'$/.exec(text.trim()) ?? [];
    const value = literal ?? facts[text.trim()];
    if (value === undefined) throw new Error(`GitHub knows no "${text}" here`);
    return value;
  };
  if (operator === undefined) return operand(left);
  return (operand(left) === operand(right)) === (operator === "==");
}

function filledIn(text: string, facts: Facts): string {
  return text.replaceAll(/\$\{\{(.*?)\}\}/g, (_, expression: string) =>
    String(evaluate(expression, facts)),
  );
}

/** The names of the steps that ran, and what they printed. */
async function runWorkflow(checkout: string, facts: Facts): Promise<[string, string][]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const workflow = parse(WORKFLOW) as Workflow;
  const ran: [string, string][] = [];
  if (!workflow.on.pull_request.types.includes(facts["github.event.action"] ?? "")) return ran;
  for (const { if: condition, env, steps } of Object.values(workflow.jobs)) {
    if (evaluate(condition, facts) !== true) continue;
    const variables = Object.entries(env).map(([name, text]) => [name, filledIn(text, facts)]);
    for (const step of steps) {
      if (step.run === undefined || (step.if !== undefined && !evaluate(step.if, facts))) continue;
      // As GitHub runs them where no shell is named.
      const { stdout } = await run("bash", ["--norc", "-e", "-c", filledIn(step.run, facts)], {
        cwd: checkout,
        env: { PATH: process.env["PATH"], ...Object.fromEntries(variables) },
      });
      ran.push([step.name ?? "", stdout]);
    }
  }
  return ran;
}

/** The command in the workflow's comment, of which the words in quotes are one. */
function tokenCommand(): string[] {
  const [, words = ""] = /^# +bough (token create .*)$/m.exec(WORKFLOW) ?? [];
  return [...words.matchAll(/'([^']*)'|\S+/g)].map(([word, quoted]) => quoted ?? word);
}

test("a pull request has a branch of its own from when it is opened until it is closed", async () => {
  using tokens = new TokenWorld();
  tokens.nowMs = Date.now();
  using commands = new CommandDirectory();
  const key = ["--signing-key", tokens.file("key.pem")];
  const token = (await commands.ok([...tokenCommand(), ...key])).trim();
  await using served = await ServedDirectory.start({}, {}, tokens.access());
  const shop = served.store.createDatabase("shop");
  served.store.connect("shop").exec("CREATE TABLE t(a); INSERT INTO t VALUES ('main')").close();
  const checkout = join(served.directory, "checkout");
  mkdirSync(join(checkout, ".github/workflows"), { recursive: true });
  const script = join(checkout, ".github/workflows/preview-branch.sh");
  copyFileSync(example("preview-branch.sh"), script);
  const github = (action: string, more: Facts = {}): Facts => ({
    "github.event.action": action,
    "github.event.number": "42",
    "github.event.pull_request.head.repo.full_name": "me/shop",
    "github.repository": "me/shop",
    "vars.BOUGH_URL": `${served.server.url}/`,
    "secrets.BOUGH_TOKEN": token,
    ...more,
  });
  const names = (): string[] => shop.branches().map(({ name }) => name);

  const [[step, printed] = []] = await runWorkflow(checkout, github("opened"));
  expect(step).toBe("Make the branch");
  expect(names()).toEqual(["main", "preview/42"]);
  const { expiresAt } = shop.branch("preview/42");
  expect(Math.round(((expiresAt?.getTime() ?? 0) - tokens.nowMs) / 86_400_000)).toBe(14);
  const url = (printed ?? "").trim();
  const response = await fetch(`${url}v2/pipeline`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify({
      requests: ["INSERT INTO t VALUES ('preview')", "SELECT count(*) FROM t"].map((sql) => ({
        type: "execute",
        stmt: { sql },
      })),
    }),
  });
  expect(await response.text()).toContain('"rows":[[{"type":"integer","value":"2"}]]');

  expect(await runWorkflow(checkout, github("synchronize"))).toEqual([
    ["Make the branch", printed],
  ]);
  const preview = served.store.connect("shop/preview/42");
  expect(preview.prepare("SELECT count(*) AS n FROM t").get()).toEqual({ n: 2 });
  preview.close();
  expect(await runWorkflow(checkout, github("labeled"))).toEqual([]);
  const fork = { "github.event.pull_request.head.repo.full_name": "other/shop" };
  expect(await runWorkflow(checkout, github("closed", fork))).toEqual([]);
  expect(names()).toEqual(["main", "preview/42"]);

  expect(await runWorkflow(checkout, github("closed"))).toEqual([["Delete the branch", ""]]);
  expect(names()).toEqual(["main"]);
  expect(await runWorkflow(checkout, github("closed"))).toEqual([["Delete the branch", ""]]);
  const refused = runWorkflow(checkout, github("opened", { "secrets.BOUGH_TOKEN": "none" }));
  await expect(refused).rejects.toThrow("AUTH_INVALID");
  expect(names()).toEqual(["main"]);
  expect(served.bugs).toEqual([]);
});
