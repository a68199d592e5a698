/**
 * The workflow of examples/preview-database, as GitHub would run it for a pull request that is opened, pushed to and closed: its
 * conditions, variables and shell steps are those of the file, the server is a real one with tokens.
 */
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { ServedDirectory } from "./server-fixture.ts";
import { TokenWorld } from "./server-tokens.ts";
