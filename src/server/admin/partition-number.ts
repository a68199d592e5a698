import { StoreError } from "../../errors.ts";

/** M2 in admin-store.ts, for a number that no partition has. */
export function noPartition(partition: number, count: number): StoreError {
  return new StoreError(
    "REQUEST_INVALID",
    `Cannot use partition ${partition}: the store has ${count}, from 0 on`,
  );
}
