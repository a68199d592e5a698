/** `connection.table`: checks of the arguments, and registration with SQLite. */
import type { ConnectionState } from "./connection-state.ts";
import { requireRegistrable, withName } from "./register-function.ts";
import { isCallback, type UserCallback } from "./user-functions.ts";
import { checkTableDefinition, type TableDefinition } from "./table-definition.ts";

/** Returns what a later registration with the same result replaces. */
export function registerTable(state: ConnectionState, name: unknown, factory: unknown): string {
  if (typeof name !== "string") throw new TypeError("Expected first argument to be a string");
  if (name === "") throw new TypeError("Virtual table module name cannot be an empty string");
  const eponymous = typeof factory === "object" && factory !== null;
  let define: (names: readonly string[]) => TableDefinition;
  if (eponymous) {
    const definition = checkTableDefinition(factory, "used", name);
    define = () => definition;
  } else if (isCallback(factory)) {
    define = (names) => callFactory(factory, names);
  } else {
    throw new TypeError("Expected second argument to be a function or a table definition object");
  }
  requireRegistrable(state);
  const { exports, tables } = state.runtime;
  const key = tables.add({ name, state, define });
  const module = eponymous ? tables.eponymousModule : tables.module;
  state.statements.clear();
  withName(state, name, (zName) =>
    exports.sqlite3_create_module_v2(state.pointer, zName, module, key, tables.xDestroy),
  );
  return `table ${name.toLowerCase()}`;
}

function callFactory(
  factory: UserCallback,
  [module = "", database = "", table = "", ...parameters]: readonly string[],
): TableDefinition {
  const definition: unknown = Reflect.apply(factory, { module, database, table }, parameters);
  if (typeof definition !== "object" || definition === null) {
    throw new TypeError(
      `Virtual table module "${module}" did not return a table definition object`,
    );
  }
  return checkTableDefinition(definition, "returned", module);
}
