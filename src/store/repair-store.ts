/**
 * Repairs a store that is not open: checks it, mends what it can, and checks again, until nothing more can be mended.
 *
 *   header -> the catalog's files -> what src/integrity/repair.ts does
 *
 * R1. Whatever was found is said: `before` is what the check found first, `report` what a last deep check finds.
 * R2. Files that are replaced as wholes, because they could not be read, are kept: `<name>.damaged`, `catalog.damaged/`.
 */
import { requireBoolean, requireOptions } from "../branch/option-names.ts";
import { catalogFiles, replaceCatalog } from "../catalog/backends.ts";
import { type CatalogState, parseJson, Table } from "../catalog/catalog.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openValue } from "../catalog/record-codec.ts";
import { StoreError } from "../errors.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { checkPacks } from "../integrity/check-chunks.ts";
import type { CheckedParts } from "../integrity/check.ts";
import { copyFile, keepAside, replaceFile } from "../integrity/repair-files.ts";
import { RepairPlan, type RepairStep } from "../integrity/repair-plan.ts";
import type { RepairSource } from "../integrity/repair-source.ts";
import { repairParts } from "../integrity/repair.ts";
import { type CheckOptions, type CheckReport, Findings } from "../integrity/report.ts";
import { readSegmentHeader } from "../log/log-recovery.ts";
import { listSegments } from "../log/segment-files.ts";
import { decodeSegmentHeader, SEGMENT_HEADER_SIZE } from "../log/segment-format.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { waitingAsync } from "../storage/not-local.ts";
import type { Storage } from "../storage/storage.ts";
import { REPAIR_OPTIONS } from "./call-options.ts";
import { checkBySql, checkFiles, lockStore, tryReadHeader } from "./check-store.ts";
import { openClosedStorage } from "./closed-storage.ts";
import { refusePartitioned } from "./open-directory.ts";
import { HEADER_FILE, parseHeader, type StoreHeader } from "./store-header.ts";
import type { StoreOptions } from "./store-options.ts";

export interface RepairOptions extends StoreOptions, CheckOptions {
  /** Where to get what this store has lost. */
  readonly source?: RepairSource | undefined;
  /** Gives up the commits after a damaged place in the log, when nothing else mends it. */
  readonly truncateLog?: boolean | undefined;
}

export interface RepairReport {
  readonly before: CheckReport;
  readonly steps: readonly RepairStep[];
  /** What was not done because it was not asked for. */
  readonly refusals: readonly string[];
  /** What is still damaged. */
  readonly report: CheckReport;
}

/** Each pass mends what the one before has uncovered: header, catalog, rows, chunks, log. */
const PASSES_MAX = 12;
const DAMAGED_CATALOG = "catalog.damaged";

/** Throws what is no damage: no store there, another process has it, a wrong key, a source that cannot be reached. */
export async function repairStore(
  path: string,
  options: RepairOptions = {},
): Promise<RepairReport> {
  requireOptions("repairStore", options, REPAIR_OPTIONS);
  requireBoolean("truncateLog", options.truncateLog);
  const { source = null, truncateLog = false, deep: _, ...given } = options;
  const local = options.storage ?? openNodeStorage(path);
  const nowMs = (options.now ?? Date.now)();
  const check = { ...given, deep: true };
  const steps: RepairStep[] = [];
  let before: CheckReport | null = null;
  let findings = new Findings();
  let refusals: readonly string[] = [];
  let isReadable = false;
  const lock = lockStore(local, path);
  try {
    for (let pass = 0; pass < PASSES_MAX; pass++) {
      const header = tryReadHeader(local);
      if (header !== null) refusePartitioned(header, `repair store "${path}"`);
      findings = new Findings();
      let plan = new RepairPlan();
      // Anew each time: a header that was repaired may say where files are.
      using closed = openClosedStorage(local, options);
      const { storage } = closed;
      const mend = async (parts: StoreParts, { places }: CheckedParts): Promise<void> => {
        if (findings.hasProblems)
          plan = await repairParts({ parts, places, findings, source, truncateLog, nowMs });
      };
      isReadable = await waitingAsync(() => checkFiles(storage, findings, check, mend));
      before ??= findings.report();
      if (!isReadable && source !== null) await repairOpening(storage, source, plan);
      steps.push(...plan.steps);
      refusals = plan.refusals;
      if (plan.steps.length === 0) break;
    }
  } finally {
    lock.release();
  }
  if (isReadable) await checkBySql(path, findings, check);
  const report = findings.report();
  return { before: before ?? report, steps, refusals, report };
}

/** What must be whole before anything else can be read. */
async function repairOpening(
  storage: Storage,
  source: RepairSource,
  plan: RepairPlan,
): Promise<void> {
  const header = tryReadHeader(storage);
  if (header === null) await repairHeader(storage, source, plan);
  else await repairCatalog(storage, header, { source, plan });
}

/** Nothing but a header says which store this is; the packs that are whole must agree. */
async function repairHeader(
  storage: Storage,
  source: RepairSource,
  plan: RepairPlan,
): Promise<void> {
  const bytes = await source.read(HEADER_FILE);
  if (bytes === null) return;
  const isRight = replaceFile(storage, HEADER_FILE, bytes, (file) => {
    const written = new Uint8Array(file.sizeSync());
    file.readSync(0, written);
    const { storeId } = parseHeader(Buffer.from(written).toString());
    const packs = new Findings();
    checkPacks(storage, storeId, packs);
    const { length } = packs.report().problems;
    if (length > 0 && length === packs.counts.packs) return false;
    keepAside(storage, HEADER_FILE);
    return true;
  });
  if (isRight) plan.done(HEADER_FILE, `copied from ${source.description}`);
}

async function repairCatalog(
  storage: Storage,
  { backend, storeId }: StoreHeader,
  { source, plan }: { source: RepairSource; plan: RepairPlan },
): Promise<void> {
  const batch = new WriteBatch();
  let state: CatalogState | null = null;
  for await (const { key, value } of source.catalogEntries()) {
    if (key[0] !== Table.node && !isWhole(key, value)) continue; // Missing then, and looked for again.
    if (key[0] === Table.state) state = parseJson(openValue(key, value, "the store state"));
    batch.put(Uint8Array.from(key), Uint8Array.from(value));
  }
  if (state === null) return;
  if (!(await goesOn(storage, { storeId, source, lsn: state.checkpointLsn }))) {
    plan.refuse(
      `Cannot repair the catalog from "${source.description}": its checkpoint is at LSN ${state.checkpointLsn}, and the log here does not go back to it; restore the store from a copy`,
    );
    return;
  }
  storage.makeDirectorySync(DAMAGED_CATALOG);
  for (const path of catalogFiles(backend, storage))
    copyFile(storage, path, `${DAMAGED_CATALOG}/${path.slice(path.lastIndexOf("/") + 1)}`);
  replaceCatalog(backend, storage, batch);
  plan.done("the catalog", `copied from ${source.description}`);
}

/** Whether the log goes back to the record after this one; segments whose headers are damaged are asked of the source. */
async function goesOn(
  storage: Storage,
  { storeId, source, lsn }: { storeId: Uint8Array; source: RepairSource; lsn: number },
): Promise<boolean> {
  const names = listSegments(storage);
  if (names.length === 0) return lsn === 0;
  for (const name of names) {
    let firstLsn: number;
    try {
      firstLsn = readSegmentHeader(storage, name, storeId).firstLsn;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const range = { offset: 0, length: SEGMENT_HEADER_SIZE };
      const bytes = await source.read(name.path, range);
      const header = bytes === null ? null : decodeSegmentHeader(bytes);
      if (header === null || "problem" in header) continue;
      firstLsn = header.firstLsn;
    }
    if (firstLsn <= lsn + 1) return true;
  }
  return false;
}

function isWhole(key: Uint8Array, value: Uint8Array): boolean {
  try {
    openValue(key, value, "");
    return true;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return false;
  }
}
