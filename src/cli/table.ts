/**
 * Tables for people. They keep within the terminal's width by cutting the widest columns, and cut nothing when the output
 * goes to a file or a pipe.
 */
import Table from "cli-table3";

export interface TableLayout {
  /** Characters per column, its two spaces included. */
  readonly widths: readonly number[];
  readonly alignments: readonly ("left" | "right")[];
}

export interface TablePart {
  readonly head: readonly string[] | null;
  readonly rows: readonly (readonly string[])[];
  readonly isLast: boolean;
}

const COLUMN_WIDTH_MIN = 6;

/** Widths that show everything, or as much as `columns` characters allow. */
export function layOut(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  options: { readonly columns: number; readonly alignments: readonly ("left" | "right")[] },
): TableLayout {
  const border = makeTable({ head, rows, isLast: true }, null).split("\n", 1)[0] ?? "";
  const natural = border
    .slice(1, -1)
    .split("┬")
    .map((part) => part.length);
  return { widths: fit(natural, options.columns), alignments: options.alignments };
}

/** Without the line end. Parts with one layout follow each other as one table. */
export function drawTable(part: TablePart, layout: TableLayout): string {
  return makeTable(part, layout);
}

/** A whole table. */
export function tableOf(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number,
): string {
  const alignments = head.map((_, index) => {
    const isNumeric = rows.every((row) => /^-?[0-9.]*( [KMGT]?i?B)?$/.test(row[index] ?? ""));
    return isNumeric && rows.length > 0 ? "right" : "left";
  });
  return drawTable({ head, rows, isLast: true }, layOut(head, rows, { columns, alignments }));
}

/** Takes from the widest columns first. Columns have a least width, so that very many of them still wrap. */
function fit(natural: readonly number[], columns: number): number[] {
  const widths = [...natural];
  let excess = widths.reduce((sum, width) => sum + width + 1, 1) - columns;
  while (excess > 0) {
    const widest = Math.max(...widths);
    if (widest <= COLUMN_WIDTH_MIN) break;
    const index = widths.indexOf(widest);
    const second = Math.max(COLUMN_WIDTH_MIN, ...widths.filter((width) => width < widest));
    const cut = Math.max(1, Math.min(excess, widest - second));
    widths[index] = widest - cut;
    excess -= cut;
  }
  return widths;
}

function makeTable(part: TablePart, layout: TableLayout | null): string {
  const { head, rows, isLast } = part;
  const none = { top: "", "top-mid": "", "top-left": "", "top-right": "" };
  const open = { bottom: "", "bottom-mid": "", "bottom-left": "", "bottom-right": "" };
  const table = new Table({
    ...(head === null ? {} : { head: [...head] }),
    ...(layout === null
      ? {}
      : { colWidths: [...layout.widths], colAligns: [...layout.alignments] }),
    chars: { ...(head === null ? none : {}), ...(isLast ? {} : open) },
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) table.push([...row]);
  return table.toString();
}
