import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { examples } from "../examples.ts";

const KEY_SIZE = 32;

export function addKeyCommands(program: Command, context: CommandContext): void {
  const group = program.command("key").description("make and change keys of encrypted stores");
  group
    .command("generate")
    .description("print a new random key")
    .addHelpText(
      "after",
      `
A store made with a key is encrypted. Keep the key: without it nobody can read the store.
${examples([
  ["(umask 077; bough key generate > shop.key)"],
  ["bough database create shop --key-file shop.key", "makes an encrypted store"],
])}`,
    )
    .action(async () => {
      const { randomBytes } = await import("node:crypto");
      const key = randomBytes(KEY_SIZE).toString("hex");
      await context.printDone(key, { key });
    });
  group
    .command("rotate")
    .description("let another key open the store; new data is sealed with a new data key")
    .requiredOption("--new-key-file <file>", "file with the new key")
    .addHelpText(
      "after",
      examples([["bough key rotate --key-file shop.key --new-key-file new.key"]]),
    )
    .action((options: { newKeyFile: string }) => rotate(context, options.newKeyFile));
}

async function rotate(context: CommandContext, path: string): Promise<void> {
  const { MASTER_KEY_SIZE, parseMasterKey } = await import("../../encryption/master-key.ts");
  const { readUserFile } = await import("../user-files.ts");
  const content = readUserFile(path);
  const isBinary = content.length === MASTER_KEY_SIZE;
  const key = parseMasterKey(
    isBinary ? content : Buffer.from(content).toString("latin1"),
    `key file "${path}"`,
  );
  await context.withStore(async (store) => {
    await store.rotateKey(Buffer.from(key.bytes).toString("hex"));
    return context.printDone(`From now on the key in "${path}" opens store "${store.path}"`, {
      store: store.path,
      keyFile: path,
      keyId: key.id,
    });
  });
}
