/**
 * Repairs what a check has found, once: what is mended may uncover more, so that a check follows, and another repair, until one
 * changes nothing. The store is not open, and nobody else has it.
 *
 *   pack headers -> rows and nodes -> chunks -> catalog transaction -> history files -> log
 *
 * A crash at any write leaves what was there or what was repaired, and the repair can be run again.
 */
import type { ChunkPlace } from "../catalog/catalog.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { idKey } from "../page/chunk-handle.ts";
import { repairChunks } from "./repair-chunks.ts";
import { repairHistory, repairPackHeader } from "./repair-files.ts";
import { repairLog } from "./repair-log.ts";
import { hexOf, RepairPlan } from "./repair-plan.ts";
import { repairNodes, repairRows } from "./repair-rows.ts";
import type { RepairSource } from "./repair-source.ts";
import type { Findings } from "./report.ts";

export interface RepairRequest {
  readonly parts: StoreParts;
  /** See CheckedParts. */
  readonly places: ReadonlyMap<string, ChunkPlace>;
  readonly findings: Findings;
  readonly source: RepairSource | null;
  /** Gives up the log from its first damage on, where nothing else helps. */
  readonly truncateLog: boolean;
  readonly nowMs: number;
}

/** The plan, carried out; without steps when nothing could be done. */
export async function repairParts(request: RepairRequest): Promise<RepairPlan> {
  const { parts, places, findings, source, truncateLog, nowMs } = request;
  const plan = new RepairPlan();
  const rows = new Map<string, Uint8Array>();
  const nodes = new Map<string, { id: Uint8Array; isUsed: boolean }>();
  const chunks = new Map<string, Uint8Array>();
  const segments = new Set<number>();
  let isLogDamaged = false;
  for (const { subjects, revisions } of findings.problems()) {
    for (const subject of subjects) {
      if (subject.kind === "pack") repairPackHeader(parts, plan, subject.number);
      else if (subject.kind === "row") rows.set(hexOf(subject.key), subject.key);
      else if (subject.kind === "node")
        nodes.set(idKey(subject.id), { id: subject.id, isUsed: revisions.size > 0 });
      else if (subject.kind === "chunk") chunks.set(idKey(subject.id), subject.id);
      else if (subject.kind === "history") segments.add(subject.segment);
      else if (subject.kind === "log") isLogDamaged = true;
    }
  }
  const repair = { parts, source, plan };
  for (const id of await repairRows(repair, [...rows.values()])) chunks.set(idKey(id), id);
  await repairNodes(repair, [...nodes.values()]);
  if (plan.steps.length > 0) {
    // They say what else is there: the next check looks at it.
    plan.commit(parts.catalog);
    return plan;
  }
  await repairChunks({ ...repair, places }, [...chunks.values()]);
  plan.commit(parts.catalog);
  for (const segment of segments)
    if (source !== null) await repairHistory(parts, { plan, source, segment });
  if (isLogDamaged) await repairLog({ parts, plan, source, truncateLog, nowMs });
  return plan;
}
