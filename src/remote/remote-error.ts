import { StoreError } from "../errors.ts";

/** A failure that may pass: the service, the network or a time limit. */
export function unavailable(action: string, facts: string, cause?: unknown): StoreError {
  return new StoreError("REMOTE_UNAVAILABLE", `Cannot ${action}: ${facts}`, {
    retryable: true,
    ...(cause === undefined ? {} : { cause }),
  });
}

export function conditionFailed(action: string, facts: string): StoreError {
  return new StoreError("CONDITION_FAILED", `Cannot ${action}: ${facts}`);
}

/**
 * What a call throws whose signal is aborted: the signal's reason, or CANCELLED and TIMEOUT for those that the platform makes
 * up by itself (`abort()` without a reason, `AbortSignal.timeout`).
 */
export function abortReason(action: string, signal: AbortSignal): unknown {
  const reason: unknown = signal.reason;
  if (!(reason instanceof DOMException)) return reason;
  if (reason.name === "AbortError")
    return new StoreError("CANCELLED", `Cannot ${action}: it was cancelled`, { cause: reason });
  if (reason.name === "TimeoutError")
    return new StoreError("TIMEOUT", `Cannot ${action}: the time limit of the caller passed`, {
      cause: reason,
      retryable: true,
    });
  return reason;
}

export function throwIfAborted(action: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortReason(action, signal);
}
