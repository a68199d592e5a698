/** What a thread needs to open a partition; it can be cloned. */
import { openStore, type Store } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";

export interface PartitionSetup {
  readonly index: number;
  readonly directory: string;
  readonly options: StoreOptions;
}

export function openPartitionStore({ directory, options }: PartitionSetup): Store {
  return openStore(directory, options);
}
