import type { StoreErrorCode } from "../errors.ts";

export type OperationKind =
  | "open"
  | "create"
  | "read"
  | "write"
  | "sync"
  | "size"
  | "truncate"
  | "exists"
  | "list"
  | "makeDirectory"
  | "rename"
  | "delete"
  | "syncDirectory";

export interface Operation {
  readonly kind: OperationKind;
  readonly path: string;
}

export interface FaultPoint {
  /** Which operations count; all when it is left out. */
  readonly kinds?: readonly OperationKind[];
  /** Only operations on paths for which this holds. */
  readonly path?: (path: string) => boolean;
  /** 1 is the next such operation. */
  readonly count: number;
}

export interface Failure extends FaultPoint {
  readonly systemCode: "EIO" | "ENOSPC" | "EACCES";
  /** Of a failing sync: unsynced writes will never reach the medium, as on Linux. */
  readonly dropUnsynced?: boolean;
  /** Every such operation from then on fails, not only the one. */
  readonly forever?: boolean;
}

export const FAILURE_CODES: Readonly<Record<Failure["systemCode"], StoreErrorCode>> = {
  EIO: "IO",
  ENOSPC: "DISK_FULL",
  EACCES: "PERMISSION",
};

/** The machine lost power: thrown by the operation that meets the crash, and by every later one until `reboot`. */
export class SimulatedCrash extends Error {
  override readonly name = "SimulatedCrash";
}

/** Counts operations against the faults that a test has planned. */
export class FaultPlan {
  private failures: { readonly failure: Failure; seen: number }[] = [];
  private crashes: { readonly point: FaultPoint; seen: number }[] = [];

  addFailure(failure: Failure): void {
    this.failures.push({ failure, seen: 0 });
  }

  addCrash(point: FaultPoint): void {
    this.crashes.push({ point, seen: 0 });
  }

  clear(): void {
    this.failures = [];
    this.crashes = [];
  }

  /** What happens to this operation: a crash comes before a failure. */
  next(operation: Operation): "crash" | Failure | null {
    let result: "crash" | Failure | null = null;
    for (const planned of this.failures) {
      const { failure } = planned;
      if (!concerns(failure, operation)) continue;
      planned.seen++;
      const due =
        planned.seen === failure.count ||
        (failure.forever === true && planned.seen > failure.count);
      if (due) result ??= failure;
    }
    for (const planned of this.crashes) {
      if (!concerns(planned.point, operation)) continue;
      planned.seen++;
      if (planned.seen === planned.point.count) result = "crash";
    }
    return result;
  }
}

function concerns(point: FaultPoint, operation: Operation): boolean {
  return (point.kinds?.includes(operation.kind) ?? true) && (point.path?.(operation.path) ?? true);
}
