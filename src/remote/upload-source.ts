/** What the upload needs of a store that is open, without knowing what a store is. */
import type { StoreCipher } from "../encryption/cipher.ts";
import type { Storage } from "../storage/storage.ts";
import type { StoredMark, StoredRun } from "./manifest.ts";

export interface LocalFile {
  readonly path: string;
  readonly number: number;
  /** Bytes. */
  readonly size: number;
}

/** The catalog as of one moment, to be brought up. */
export interface CatalogState {
  readonly mark: StoredMark;
  readonly checkpointLsn: number;
}

/** A run to be stored, as a file of the store's directory. */
export interface LocalRun {
  readonly path: string;
  readonly size: number;
  readonly isBase: boolean;
  /** How many of the newest runs that are stored already it replaces (all, for a base). */
  readonly replaces: number;
}

export interface UploadSource {
  readonly storage: Storage;
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** Hex: says which copy of the store this directory is. */
  readonly replica: string;
  /** The contents of store.json. */
  header(): string;
  readonly durableLsn: number;
  readonly lastLsn: number;
  /** Null before the first checkpoint. */
  catalogState(): CatalogState | null;
  /** Ends the pack being written; every pack on this machine, complete. */
  completePacks(): readonly LocalFile[];
  /** Whether log records from `afterLsn` on may refer to chunks in packs that `completePacks` has not returned yet. */
  hasStagedPacks(): boolean;
  /** The history segments that the catalog names and that are on this machine. */
  historyFiles(): readonly LocalFile[];
  /** All packs and history segments that the catalog, or a commit after it, needs, wherever they are; with turns for others. */
  neededFiles(): Generator<void, { packs: ReadonlySet<number>; history: ReadonlySet<number> }>;
  /**
   * Brings `runs`, which are stored and show the state `mark`, up to the present state; null when they do already. The file
   * stays until `runStored`.
   */
  makeRun(runs: readonly StoredRun[], mark: StoredMark | null): Generator<void, MadeRun | null>;
  /** The manifest names it now, and these runs altogether. */
  runStored(made: MadeRun, runs: readonly StoredRun[]): void;
  now(): number;
}

export interface MadeRun {
  readonly run: LocalRun;
  readonly state: CatalogState;
}
