/** Prints the rows of one statement after the other, in the form that --output asks for. */
import type { OutputFormat } from "./command-context.ts";
import { csvField, csvText, jsonText, type SqlValue, tableText, visibleText } from "./sql-value.ts";
import { drawFoot, drawHead, drawRow, layOut, type TableLayout } from "./table.ts";
import type { TextOutput } from "./terminal.ts";

/** The first rows, which a table's widths are taken from. */
const LAYOUT_ROWS = 5000;

export interface ResultPrinter {
  /** True: the output is to be flushed before the next one. */
  row(values: readonly SqlValue[]): boolean;
  end(): void;
}

export function printResult(
  output: TextOutput,
  format: OutputFormat,
  columns: readonly string[],
): ResultPrinter {
  switch (format) {
    case "table":
      return new TablePrinter(output, columns.map(visibleText));
    case "json":
      return new JsonPrinter(output, columns);
    case "csv":
      return new CsvPrinter(output, columns);
  }
}

class TablePrinter implements ResultPrinter {
  readonly #output: TextOutput;
  readonly #columns: readonly string[];
  readonly #isNumeric: boolean[];
  /** Rows that wait for the layout. */
  #waiting: string[][] = [];
  #layout: TableLayout | null = null;

  constructor(output: TextOutput, columns: readonly string[]) {
    this.#output = output;
    this.#columns = columns;
    this.#isNumeric = columns.map(() => true);
  }

  row(values: readonly SqlValue[]): boolean {
    const texts = values.map(tableText);
    if (this.#layout !== null) return this.#output.append(`${drawRow(texts, this.#layout)}\n`);
    this.#waiting.push(texts);
    for (const [index, value] of values.entries())
      if (typeof value === "string" || value instanceof Uint8Array) this.#isNumeric[index] = false;
    if (this.#waiting.length < LAYOUT_ROWS) return false;
    this.#begin();
    return true;
  }

  end(): void {
    const layout = this.#layout ?? this.#begin();
    this.#output.append(`${drawFoot(layout)}\n`);
  }

  #begin(): TableLayout {
    const rows = this.#waiting;
    this.#waiting = [];
    const alignments = this.#isNumeric.map((isNumeric): "left" | "right" =>
      isNumeric && rows.length > 0 ? "right" : "left",
    );
    const layout = layOut([this.#columns, ...rows], { columns: this.#output.columns, alignments });
    this.#layout = layout;
    this.#output.append(`${drawHead(this.#columns, layout)}\n`);
    for (const row of rows) this.#output.append(`${drawRow(row, layout)}\n`);
    return layout;
  }
}

/** An array of objects on one line for each statement. */
class JsonPrinter implements ResultPrinter {
  readonly #output: TextOutput;
  readonly #keys: readonly string[];
  #isFirst = true;

  constructor(output: TextOutput, columns: readonly string[]) {
    this.#output = output;
    this.#keys = uniqueNames(columns).map((name) => `${JSON.stringify(name)}:`);
  }

  row(values: readonly SqlValue[]): boolean {
    const members = values.map((value, index) => this.#keys[index] + jsonText(value));
    const start = this.#isFirst ? "[" : ",";
    this.#isFirst = false;
    return this.#output.append(`${start}{${members.join(",")}}`);
  }

  end(): void {
    this.#output.append(this.#isFirst ? "[]\n" : "]\n");
  }
}

/** RFC 4180: a line of column names, lines end with CR LF. */
class CsvPrinter implements ResultPrinter {
  readonly #output: TextOutput;
  #head: string | null;

  constructor(output: TextOutput, columns: readonly string[]) {
    this.#output = output;
    this.#head = `${columns.map(csvField).join(",")}\r\n`;
  }

  row(values: readonly SqlValue[]): boolean {
    const head = this.#head ?? "";
    this.#head = null;
    return this.#output.append(`${head}${values.map(csvText).join(",")}\r\n`);
  }

  end(): void {
    if (this.#head !== null) this.#output.append(this.#head);
  }
}

/** Members of an object need names of their own: the second "a" becomes "a:1", as in SQLite's subqueries. */
function uniqueNames(columns: readonly string[]): string[] {
  const taken = new Set<string>();
  return columns.map((column) => {
    let name = column;
    for (let number = 1; taken.has(name); number++) name = `${column}:${number}`;
    taken.add(name);
    return name;
  });
}
