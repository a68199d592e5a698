/** Whether a step of a batch runs. */
import type { BatchCondition } from "./protocol.ts";

/** What has become of a step; a skipped one is neither "ok" nor "error". */
export type StepOutcome = "ok" | "error" | "skipped";

export function isMet(
  condition: BatchCondition,
  outcomes: readonly StepOutcome[],
  isAutocommit: () => boolean,
): boolean {
  switch (condition.type) {
    case "ok":
    case "error":
      return outcomes[condition.step] === condition.type;
    case "not":
      return !isMet(condition.condition, outcomes, isAutocommit);
    case "and":
      return condition.conditions.every((each) => isMet(each, outcomes, isAutocommit));
    case "or":
      return condition.conditions.some((each) => isMet(each, outcomes, isAutocommit));
    case "is_autocommit":
      return isAutocommit();
  }
}
