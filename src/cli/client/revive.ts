/** Answers of the admin API with their times as dates, as the store's own methods give them. */
const TIMES: ReadonlySet<string> = new Set([
  "at",
  "checkedAt",
  "createdAt",
  "expiresAt",
  "timestamp",
  "until",
  "uploadedAt",
]);

/** Changes what it is given. */
export function revive(value: unknown): unknown {
  if (Array.isArray(value)) for (const each of value) revive(each);
  else if (typeof value === "object" && value !== null) {
    const record = value as Record<string, unknown>;
    for (const [name, each] of Object.entries(record))
      if (typeof each !== "string") revive(each);
      else if (TIMES.has(name)) record[name] = new Date(each);
  }
  return value;
}
