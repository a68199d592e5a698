/** Tokens for a server of the store: made, looked into and revoked here; accepted or not by `src/server/access`. */
import { join } from "node:path";
import { type Command, Option } from "commander";
import type { AccessLevel, ScopeClaim } from "../../server/access/claims.ts";
import type { TokenKey } from "../../server/access/token-key.ts";
import type { CommandContext } from "../command-context.ts";
import { CommandError, UsageError } from "../errors.ts";
import { examples } from "../examples.ts";
import { decodeText } from "../input-text.ts";
import { parseDuration, showTime } from "../time.ts";

const EVERY_BRANCH = "**";
const TTL = "30d";

export function addTokenCommands(program: Command, context: CommandContext): void {
  const group = program
    .command("token")
    .description("make, look into and revoke tokens for a server");
  addCreateCommand(group, context);
  addInspectCommand(group, context);
  addRevokeCommand(group, context);
  addKeyCommand(group, context);
}

interface CreateOptions {
  readonly database: readonly string[];
  readonly branch?: readonly string[];
  readonly alsoRead?: readonly string[];
  readonly access: AccessLevel;
  readonly ttl: string;
  readonly subject?: string;
  readonly issuer?: string;
  readonly audience?: string;
  readonly signingKey?: string;
  readonly secretFile?: string;
}

function addCreateCommand(group: Command, context: CommandContext): void {
  group
    .command("create")
    .description("print a new token")
    .requiredOption("--database <pattern>", "databases that it is for; may be repeated", collect)
    .option(
      "--branch <pattern>",
      "branches that it is for; may be repeated (default: all)",
      collect,
    )
    .option(
      "--also-read <pattern>",
      "branches that it may read beside; may be repeated: what others are made from",
      collect,
    )
    .addOption(
      new Option("--access <what>", "read; read and write; also create, reset and delete")
        .choices(["ro", "rw", "admin"])
        .makeOptionMandatory(),
    )
    .option("--ttl <duration>", 'how long it is good: "12h", "forever"', TTL)
    .option("--subject <name>", "who it is for")
    .option("--issuer <name>", "who makes it, for servers that ask")
    .option("--audience <name>", "the server it is for, for servers that ask")
    .option(
      "--signing-key <file>",
      "private key: PEM or JWK (default: $BOUGH_SIGNING_KEY_FILE, then token-key.pem in the store)",
    )
    .option("--secret-file <file>", "a secret shared with the server, instead of a private key")
    .addHelpText(
      "after",
      `
In a pattern "*" stands for any letters up to a "/", and "**" for one or more parts: "preview/*" is preview/7, not preview/a/b and not main.
${examples([
  ["bough token create --database shop --branch 'preview/*' --access rw"],
  ["bough token create --database shop --access ro --ttl 1h", "all branches"],
  ["bough token create --database shop --branch 'preview/*' --access admin --also-read main"],
  ["bough token create --database '*' --access admin", "everything, the server too"],
])}`,
    )
    .action((options: CreateOptions) => create(context, options));
}

async function create(context: CommandContext, options: CreateOptions): Promise<void> {
  requireNoStoreKey(context);
  const { faultOfScope } = await import("../../server/access/claims.ts");
  const { createToken } = await import("../../server/access/create-token.ts");
  const { access, branch: branches = [EVERY_BRANCH], alsoRead = [] } = options;
  const scopes: ScopeClaim[] = options.database.flatMap((database) => [
    ...branches.map((branch) => ({ database, branch, access })),
    ...alsoRead.map((branch) => ({ database, branch, access: "ro" as const })),
  ]);
  for (const scope of scopes) {
    const fault = faultOfScope(scope);
    if (fault !== null) throw new UsageError(`Cannot create a token for ${fault}`);
  }
  const ttlMs = parseDuration("--ttl", options.ttl);
  if (ttlMs !== null && ttlMs < 1000)
    throw new UsageError(
      `Cannot create a token with --ttl "${options.ttl}": a second is the least`,
    );
  const { subject, issuer, audience } = options;
  const nowMs = Date.now();
  const key = await signingKey(context, options);
  const { token, id, expiresAtMs } = await createToken({
    key,
    scopes,
    expiresAtMs: ttlMs === null ? null : nowMs + ttlMs,
    nowMs,
    ...(subject === undefined ? {} : { subject }),
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
  }).catch((error: unknown) => {
    // More scopes than a token can hold.
    throw error instanceof RangeError ? new UsageError(error.message) : error;
  });
  const expiresAt = expiresAtMs === null ? null : new Date(expiresAtMs);
  await context.printDone(token, { token, id, expiresAt, scopes });
}

async function signingKey(context: CommandContext, options: CreateOptions): Promise<TokenKey> {
  const { parseSigningKey } = await import("../../server/access/token-key.ts");
  const { readUserFile } = await import("../user-files.ts");
  const { secretFile } = options;
  if (secretFile !== undefined) {
    if (options.signingKey !== undefined)
      throw new UsageError(
        "Cannot use --signing-key with --secret-file: a token has one signature",
      );
    const source = `the file "${secretFile}"`;
    return parseSigningKey({ bytes: readUserFile(secretFile), source, isSecret: true });
  }
  const path = options.signingKey ?? (await defaultSigningKey(context));
  return parseSigningKey({ bytes: readUserFile(path), source: `the file "${path}"` });
}

async function defaultSigningKey(context: CommandContext): Promise<string> {
  const variable = context.terminal.env["BOUGH_SIGNING_KEY_FILE"];
  if (variable !== undefined && variable !== "") return variable;
  const { PRIVATE_KEY_FILE } = await import("../../server/access/key-files.ts");
  context.requireHere("sign a token for");
  if (!context.isRemote) {
    const { openNodeStorage } = await import("../../storage/node-storage.ts");
    if (openNodeStorage(context.storePath).existsSync(PRIVATE_KEY_FILE))
      return join(context.storePath, PRIVATE_KEY_FILE);
  }
  throw new CommandError(
    "FILE_NOT_FOUND",
    `Cannot sign a token: store "${context.storePath}" has no "${PRIVATE_KEY_FILE}"; make one with ${context.commandLine("token", "key", "create")}, or give --signing-key`,
  );
}

function addInspectCommand(group: Command, context: CommandContext): void {
  group
    .command("inspect <token>")
    .description('print what a token says; "-" reads it from stdin')
    .option("--public-key <file>", "check that it is good, with this key")
    .option(
      "--revocations <file>",
      "the list that says whether it is revoked (default: revoked-tokens.json in the store)",
    )
    .addHelpText(
      "after",
      examples([
        ["bough token inspect eyJhbGciOi..."],
        ["bough token inspect - --public-key token-key.pub.pem < token.txt"],
      ]),
    )
    .action((text: string, options: InspectOptions) => inspect(context, text, options));
}

interface InspectOptions {
  readonly publicKey?: string;
  readonly revocations?: string;
}

async function inspect(
  context: CommandContext,
  text: string,
  { publicKey, revocations }: InspectOptions,
): Promise<void> {
  requireNoStoreKey(context);
  const { readTokenFacts } = await import("../../server/access/token-facts.ts");
  const token = await tokenText(context, text);
  const facts = readTokenFacts(token, Date.now());
  if (publicKey !== undefined) await verify(token, publicKey);
  const signature = publicKey === undefined ? "not checked" : "good";
  const { isRevoked, list } = await lookUpRevocation(context, facts.id, revocations);
  if (context.format === "json")
    return context.printJson({ ...facts, signature, isRevoked, revocations: list });
  const lines: readonly (readonly [string, string | null])[] = [
    ["id", facts.id],
    ["subject", facts.subject],
    ["issuer", facts.issuer],
    ["audience", facts.audience.join(", ")],
    ["issued", showTime(facts.issuedAt)],
    ["good from", showTime(facts.notBefore)],
    ["expires", facts.expiresAt === null ? "never" : showTime(facts.expiresAt)],
    ["algorithm", facts.algorithm],
    ["key", facts.keyId],
    ["signature", signature],
    ["revoked", list === null ? "not known" : `${isRevoked ? "yes" : "no"}, says "${list}"`],
    ...facts.scopes.map(
      ({ database, branch, access }) => ["allows", `${access} ${database} ${branch}`] as const,
    ),
    ...(facts.scopes.length === 0 ? [["allows", "nothing"] as const] : []),
  ];
  for (const [name, value] of lines)
    if (value !== null && value !== "")
      await context.printLine(`${`${name}:`.padEnd(11)}${visible(value)}`);
  if (facts.isExpired) await context.printLine("This token has expired");
}

interface Revocation {
  /** Null: not known. */
  readonly isRevoked: boolean | null;
  /** The file that says so. */
  readonly list: string | null;
}

/** Of the list that is named, else of the store here, if there is one; a server may go by another. */
async function lookUpRevocation(
  context: CommandContext,
  id: string,
  named: string | undefined,
): Promise<Revocation> {
  const { readRevocations, REVOCATIONS_FILE } = await import("../../server/access/revocations.ts");
  const list = named ?? (await ownList(context, REVOCATIONS_FILE));
  if (list === null) return { isRevoked: null, list };
  const revoked = readRevocations(list);
  // A server takes a list that is not there for an empty one. Here its name may be misspelled.
  if (revoked === null && named !== undefined)
    throw new CommandError(
      "FILE_NOT_FOUND",
      `Cannot read the list of revoked tokens "${list}": there is no such file`,
    );
  return { isRevoked: revoked?.some((entry) => entry.id === id) ?? false, list };
}

/** Null: the store is not here. */
async function ownList(context: CommandContext, name: string): Promise<string | null> {
  if (context.url !== null || context.isRemote || !(await isStore(context.storePath))) return null;
  return join(context.storePath, name);
}

/** Text of others must not steer the terminal. */
function visible(text: string): string {
  return text.replaceAll(/\p{C}/gu, "?");
}

async function verify(
  token: string,
  path: string,
): Promise<{ readonly expiresAtMs: number | null }> {
  const { Authenticator } = await import("../../server/access/authenticator.ts");
  const { KeyFile } = await import("../../server/access/key-source.ts");
  const by = new Authenticator({ keys: [new KeyFile(path)], revocations: null });
  return by.authenticate(token);
}

function addRevokeCommand(group: Command, context: CommandContext): void {
  group
    .command("revoke <id|token>")
    .description(
      'refuse a token from now on; servers that run learn it within a second; "-" reads it from stdin',
    )
    .option("--revocations <file>", "the list (default: revoked-tokens.json in the store)")
    .addHelpText(
      "after",
      `
The id of a token is printed by "bough token inspect". A token without one is revoked by the token itself.
${examples([["bough token revoke iUHsmq1Jq0bUOaSjNFhLGw"]])}`,
    )
    .action((text: string, options: { revocations?: string }) => revoke(context, text, options));
}

async function revoke(
  context: CommandContext,
  text: string,
  { revocations }: { readonly revocations?: string },
): Promise<void> {
  requireNoStoreKey(context);
  const { REVOCATIONS_FILE, revokeToken } = await import("../../server/access/revocations.ts");
  const given = await tokenText(context, text);
  const { id, expiresAtMs } = await whatToRevoke(context, given);
  const file =
    revocations ?? join(await storeDirectory(context, "revoke tokens of"), REVOCATIONS_FILE);
  const isNew = revokeToken(file, { id, expiresAtMs, nowMs: Date.now() });
  const sentence = isNew
    ? `Revoked token "${visible(id)}" in "${file}"`
    : `Token "${visible(id)}" is revoked already`;
  await context.printDone(sentence, { revoked: id, isNew, file });
}

async function whatToRevoke(
  context: CommandContext,
  text: string,
): Promise<{ readonly id: string; readonly expiresAtMs: number | null }> {
  const { ID_LENGTH_MAX } = await import("../../server/access/revocations.ts");
  if (text === "" || text.length > 10_000)
    throw new UsageError("Cannot revoke a token: this is no id");
  if (!/^[^.]+\.[^.]+\.[^.]+$/.test(text)) {
    if (text.length > ID_LENGTH_MAX)
      throw new UsageError(
        `Cannot revoke a token: an id has at most ${ID_LENGTH_MAX} characters, this has ${text.length}`,
      );
    return { id: text, expiresAtMs: null };
  }
  const { readTokenFacts } = await import("../../server/access/token-facts.ts");
  const { id } = readTokenFacts(text, Date.now());
  return { id, expiresAtMs: await verifiedExpiry(context, text) };
}

/** When its entry may be dropped: only a good signature makes the time in a token count. */
async function verifiedExpiry(context: CommandContext, token: string): Promise<number | null> {
  if (context.isRemote || context.url !== null) return null;
  const { publicKeyOfStore } = await import("../../server/access/key-files.ts");
  const path = publicKeyOfStore(context.storePath);
  if (path === null) return null;
  try {
    return (await verify(token, path)).expiresAtMs;
  } catch {
    return null;
  }
}

function addKeyCommand(group: Command, context: CommandContext): void {
  group
    .command("key")
    .description("make keys that sign tokens")
    .command("create [file]")
    .description("make an Ed25519 pair: FILE signs tokens, its .pub.pem is for the server")
    .addHelpText(
      "after",
      `
Without FILE they are put into the store, as token-key.pem and token-key.pub.pem, where "bough token create" and servers find them.
${examples([["bough token key create"], ["bough token key create keys/2026.pem"]])}`,
    )
    .action((file: string | undefined) => createKey(context, file));
}

async function createKey(context: CommandContext, file: string | undefined): Promise<void> {
  requireNoStoreKey(context);
  if (file === "") throw new UsageError("Cannot make a pair of keys: FILE is empty");
  const { createKeyFiles, PRIVATE_KEY_FILE } = await import("../../server/access/key-files.ts");
  const path = file ?? join(await storeDirectory(context, "put keys into"), PRIVATE_KEY_FILE);
  const files = createKeyFiles(path);
  await context.printDone(
    `Made the private key "${files.privateKey}", which signs tokens, and the public key "${files.publicKey}" for servers${file === undefined ? "; one that runs takes it when it is started again" : ""}`,
    files,
  );
}

/** Of a store that is there: a file of tokens in an empty directory would be in the way of making one. */
async function storeDirectory(context: CommandContext, what: string): Promise<string> {
  const directory = context.directoryFor(what);
  if (await isStore(directory)) return directory;
  throw new CommandError(
    "STORE_NOT_FOUND",
    `Cannot ${what} store "${directory}": there is no store; give --store, or a file`,
  );
}

async function isStore(directory: string): Promise<boolean> {
  const { openNodeStorage } = await import("../../storage/node-storage.ts");
  const { listStore } = await import("../../store/store-directory.ts");
  const { HEADER_FILE } = await import("../../store/store-header.ts");
  return listStore(openNodeStorage(directory), directory).includes(HEADER_FILE);
}

async function tokenText(context: CommandContext, text: string): Promise<string> {
  if (text !== "-") return text.trim();
  let read = "";
  for await (const piece of decodeText(context.terminal.stdin)) {
    read += piece;
    if (read.length > 100_000)
      throw new UsageError("Cannot read a token: stdin holds something else");
  }
  return read.trim();
}

/** The option of all commands is for encrypted stores, which is easily taken for this key. */
function requireNoStoreKey(context: CommandContext): void {
  if (context.keyOptions().keyFile === undefined) return;
  throw new UsageError(
    "Cannot use --key-file here: it is the key of an encrypted store; the key for tokens is --signing-key or --public-key",
  );
}

function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}
