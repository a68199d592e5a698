/**
 * Whether a connection can be used.
 *
 *   ready --call--> busy --return--> ready --close()--> closed
 *   any --a trap inside WebAssembly--> failed --close()--> closed
 *   ready --park()--> parked --call--> ready         (of an awaited connection, see parking.ts)
 */
export const ConnectionStatus = { ready: 0, busy: 1, closed: 2, failed: 3, parked: 4 } as const;
export type ConnectionStatus = (typeof ConnectionStatus)[keyof typeof ConnectionStatus];
