/** Checks of options objects, with better-sqlite3's messages. */

export function booleanOption(options: object, name: string): boolean {
  if (!(name in options)) return false;
  const value: unknown = Reflect.get(options, name);
  if (typeof value !== "boolean") {
    throw new TypeError(`Expected the "${name}" option to be a boolean`);
  }
  return value;
}

/** The schema to work on: "main" by default. */
export function attachedOption(options: { readonly attached?: string }): string {
  const attached: unknown = "attached" in options ? options.attached : "main";
  if (typeof attached !== "string") {
    throw new TypeError('Expected the "attached" option to be a string');
  }
  if (attached === "") throw new TypeError('The "attached" option cannot be an empty string');
  return attached;
}

/** Milliseconds; Infinity: no limit. */
export function requireTimeout(timeoutMs: number): number {
  if (typeof timeoutMs === "number" && timeoutMs > 0) return timeoutMs;
  throw new RangeError(`Cannot use ${timeoutMs} ms as a time limit: it is not above 0`);
}

/** Milliseconds; 0: do not wait. */
export function requireBusyTimeout(timeoutMs: number): number {
  if (typeof timeoutMs === "number" && timeoutMs >= 0) return timeoutMs;
  throw new RangeError(`Option "busyTimeoutMs": ${timeoutMs} is not a number of milliseconds`);
}

/** No argument means true. */
export function toggled(parameters: readonly unknown[]): boolean {
  if (parameters.length === 0) return true;
  const [value] = parameters;
  if (typeof value !== "boolean") throw new TypeError("Expected first argument to be a boolean");
  return value;
}
