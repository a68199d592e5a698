import { afterEach, beforeEach, expect, test } from "vitest";
import { CommandDirectory } from "../testing/run-command.ts";
