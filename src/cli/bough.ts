#!/usr/bin/env node
/** The command `bough`: runs with the process's own streams. */
import { run } from "./run.ts";

const { stdin, stdout, stderr, env } = process;
process.exitCode = await run(process.argv.slice(2), { stdin, stdout, stderr, env });
