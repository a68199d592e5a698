/**
 * Whether an exception that came out of WebAssembly means that SQLite was cut off in the middle of its work. Exceptions
 * of JavaScript that SQLite calls do not get that far (C2 in connection-state.ts); V8's stack overflow does.
 */
export function isTrap(error: unknown): boolean {
  return (
    error instanceof WebAssembly.RuntimeError ||
    (error instanceof RangeError && error.message === "Maximum call stack size exceeded")
  );
}
