import type { Command } from "commander";
import { parseBranch } from "../branch-name.ts";
import type { CommandContext } from "../command-context.ts";
import { examples } from "../examples.ts";

export function addRestoreCommand(program: Command, context: CommandContext): void {
  program
    .command("restore <database/branch>")
    .description("make a branch what a revision was; a new branch keeps what it is now")
    .requiredOption("--to <revision>", "what it becomes")
    .option("--preserve-as <name>", "the branch that keeps what it is now")
    .addHelpText(
      "after",
      examples([
        ["bough restore shop/main --to shop@120"],
        ["bough restore shop/main --to shop@-5m --preserve-as after-the-accident"],
      ]),
    )
    .action((name: string, options: { to: string; preserveAs?: string }) => {
      const { database, branch: branchName } = parseBranch(name, "main");
      return context.withStore(async (store) => {
        const restored = await store.restoreBranch(database, branchName, options);
        const { branch, preserved } = restored;
        const { revision } = branch;
        const undo = context.commandLine("restore", revision, "--to", preserved.revision);
        return context.printDone(
          `Restored "${revision}" to version ${branch.head.version}; what it was is kept as "${preserved.revision}"; to undo: ${undo}`,
          { ...branch, preservedAs: preserved.revision, undo },
        );
      });
    });
}
