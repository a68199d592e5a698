import type { StoreParts } from "../checkpoint/store-state.ts";
import type { PageHolder } from "../transaction/tracer.ts";

/**
 * Keeps what a follower has made this state of in object storage until the result is disposed of, though it shows a newer one. Says
 * nothing to garbage collection.
 */
export function holdState({ holders, databases }: StoreParts): Disposable {
  const context = [...databases.values()][0]?.context ?? null;
  const holder: PageHolder = { trace: () => {}, heldContext: () => context };
  holders.add(holder);
  return { [Symbol.dispose]: () => void holders.delete(holder) };
}
