/**
 * Whether a connection can be used.
 *
 *   ready --call--> busy --return--> ready --close()--> closed
 *   any --a trap inside WebAssembly--> failed --close()--> closed
 */
export const ConnectionStatus = { ready: 0, busy: 1, closed: 2, failed: 3 } as const;
export type ConnectionStatus = (typeof ConnectionStatus)[keyof typeof ConnectionStatus];
