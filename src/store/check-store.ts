/**
 * Checks a store that is not open, and may not open: what `Store.check` does, from the files. Damage becomes problems of the
 * report; what is no damage (no store there, another process has it, a wrong key) is thrown.
 */
import { requireOptions } from "../branch/option-names.ts";
import { checkCatalogFiles, isCatalogThere, openBackend } from "../catalog/backends.ts";
import { Catalog } from "../catalog/catalog.ts";
import { checkPacks } from "../integrity/check-chunks.ts";
import { type CheckedParts, checkParts } from "../integrity/check.ts";
import { type CheckOptions, type CheckReport, Findings } from "../integrity/report.ts";
import type { KeyValueStore } from "../catalog/key-value.ts";
import { RecordingKeyValueStore } from "../catalog/recording-key-value.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { PACK_DIRECTORY } from "../page/pack-format.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { waitingAsync } from "../storage/not-local.ts";
import type { Storage } from "../storage/storage.ts";
import { acquireStoreLock, type StoreLock } from "../storage/store-lock.ts";
import { CHECK_STORE_OPTIONS } from "./call-options.ts";
import { checkHeads } from "./check-heads.ts";
import { openClosedStorage } from "./closed-storage.ts";
import { type HandOverIntent, readIntent } from "./hand-over-intent.ts";
import { makeParts } from "./open-state.ts";
import { listStore } from "./store-directory.ts";
import { openStore } from "./store.ts";
import { readPackNumbers } from "./pack-numbers.ts";
import { checkPartition, partitionStorage, refuseUncounted } from "./partition-files.ts";
import { addCheck, wholeCheck } from "./partition-reports.ts";
import { HEADER_FILE, partitionCount, readHeader, type StoreHeader } from "./store-header.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import { resolveOptions, storeNotFound, type StoreOptions } from "./store-options.ts";

export async function checkStore(
  path: string,
  options: StoreOptions & CheckOptions = {},
): Promise<CheckReport> {
  requireOptions("checkStore", options, CHECK_STORE_OPTIONS);
  const local = options.storage ?? openNodeStorage(path);
  const findings = new Findings();
  /** Of the partitions after the first. */
  const others: Findings[] = [];
  const lock = lockStore(local, path);
  let isReadable: boolean;
  try {
    using files = openClosedStorage(local, options);
    const header = tryReadHeader(local);
    const count = header === null ? 1 : partitionCount(header);
    const moving =
      count === 1 ? { intent: null } : damageTo(findings, "header", () => readMoving(local));
    const arrivingIn = (index: number): Arriving => {
      const intent = moving?.intent ?? null;
      return { arriving: intent?.to === index ? [intent.targetId] : [] };
    };
    const given = { ...options, ...arrivingIn(0) };
    isReadable = await waitingAsync(() => checkFiles(files.storage, findings, given));
    isReadable &&= moving !== null;
    for (let index = 1; index < count; index++) {
      const found = new Findings();
      others.push(found);
      const of = { ...options, ...arrivingIn(index) };
      isReadable = (await checkPartitionOf(local, header!, index, found, of)) && isReadable;
    }
  } finally {
    lock.release();
  }
  const isDeep = isReadable && options.deep === true;
  if (others.length === 0) {
    if (isDeep) await checkBySql(path, findings, options);
    return findings.report();
  }
  const bySql = new Findings();
  if (isDeep) await checkBySql(path, bySql, options);
  const files = wholeCheck([findings, ...others].map((each) => each.report()));
  return addCheck(files, bySql.report());
}

interface Arriving {
  /** Databases that are on their way to this partition: they have rows, and do not exist yet. */
  readonly arriving?: readonly number[];
}

function readMoving(root: Storage): { readonly intent: HandOverIntent | null } {
  return { intent: readIntent(root) };
}

/** Null when it is damaged or missing. */
export function tryReadHeader(storage: Storage): StoreHeader | null {
  if (!storage.existsSync(HEADER_FILE)) return null;
  try {
    return readHeader(storage);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "CORRUPT_HEADER") throw error;
    return null;
  }
}

/** A partition after the first. */
async function checkPartitionOf(
  root: Storage,
  header: StoreHeader,
  index: number,
  findings: Findings,
  options: StoreOptions & CheckOptions & Arriving,
): Promise<boolean> {
  const isThere = damageTo(findings, "header", () => {
    checkPartition(root, header, index);
    return true;
  });
  if (isThere === null) return false;
  const storage = partitionStorage(root, index);
  return await checkFiles(storage, findings, { ...options, header });
}

/** Throws STORE_NOT_FOUND, STORE_LOCKED. */
export function lockStore(storage: Storage, path: string): StoreLock {
  const names = listStore(storage, path);
  const isStore = names.includes(HEADER_FILE) || names.includes(PACK_DIRECTORY);
  if (!isStore) throw storeNotFound(path);
  return acquireStoreLock(storage, { description: path });
}

/**
 * False when too little is whole for the store to open. The caller holds the lock. `header` is given for a partition after the
 * first. `then` is called with what was checked before
 * it is closed again.
 */
export async function checkFiles(
  storage: Storage,
  findings: Findings,
  options: StoreOptions & CheckOptions & Arriving & { readonly header?: StoreHeader },
  then?: (parts: StoreParts, checked: CheckedParts) => Promise<void>,
): Promise<boolean> {
  const header = damageTo(findings, "header", () => {
    if (options.header !== undefined) return options.header;
    if (storage.existsSync(HEADER_FILE)) {
      const read = readHeader(storage);
      refuseUncounted(storage, read);
      return read;
    }
    throw new StoreError("CORRUPT_HEADER", `Cannot read "${HEADER_FILE}": it is missing`);
  });
  if (header === null) return false;
  const master = header.encryption === null ? null : givenMasterKey(options);
  const cipher = openCipher(header, master, options);
  const backend = openCatalog(storage, header, findings);
  if (backend === null) {
    checkPacks(storage, header.storeId, findings);
    return false;
  }
  try {
    const catalog = new Catalog(then === undefined ? backend : recording(backend));
    const resolved = resolveOptions(options);
    const parts = makeParts({ storage, storeId: header.storeId, cipher, resolved, catalog });
    for (const id of options.arriving ?? []) parts.arriving.add(id);
    try {
      if (then !== undefined) parts.chunks.reservePackNumbers(readPackNumbers(storage));
      const checked = await checkParts(parts, findings, { ...options, isOpen: false });
      await then?.(parts, checked);
    } finally {
      parts.history.close();
      parts.chunks.close();
    }
  } finally {
    backend.close();
  }
  return true;
}

/** Null when there is none to read; never makes one. */
function openCatalog(
  storage: Storage,
  header: StoreHeader,
  findings: Findings,
): KeyValueStore | null {
  return damageTo(findings, "catalog", () => {
    const hasPacks = storage.listSync(PACK_DIRECTORY).length > 0;
    if (hasPacks && !isCatalogThere(header.backend, storage))
      throw new StoreError("CORRUPT_CATALOG", "Cannot read the catalog: its file is missing");
    // Opening looks at a part of a large file; lmdb would end the process at the first damaged page in the rest.
    checkCatalogFiles(header.backend, storage);
    return openBackend(header.backend, storage);
  });
}

/**
 * What a repair changes is a new state of the catalog, and its next upload the whole of it: object storage must not go on naming
 * what the store here has left. Without a mark that can be read the row of the mark is what comes first.
 */
function recording(backend: KeyValueStore): KeyValueStore {
  const store = new RecordingKeyValueStore(backend);
  try {
    store.mark();
    return store;
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "CORRUPT_CATALOG") throw error;
    return backend;
  }
}

function damageTo<T>(findings: Findings, kind: "header" | "catalog", read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof StoreError) || !error.code.startsWith("CORRUPT")) throw error;
    findings.addDamage({ kind }, error);
    return null;
  }
}

/** The disk or the rights around the store: opening it writes, looking at it does not. */
const NO_DAMAGE: ReadonlySet<string> = new Set(["DISK_FULL", "PERMISSION", "STORE_LOCKED"]);

/** The last part of a deep check; nobody has the store open. */
export async function checkBySql(
  path: string,
  findings: Findings,
  options: StoreOptions & CheckOptions,
): Promise<void> {
  try {
    const { deep: _, onProgress: _told, ...given } = options;
    using store = openStore(path, { ...given, create: false });
    await checkHeads(store, findings, options);
  } catch (error) {
    if (error instanceof StoreError && NO_DAMAGE.has(error.code)) throw error;
    findings.addError(error);
  }
}
