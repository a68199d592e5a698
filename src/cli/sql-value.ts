/**
 * Values of SQLite as text. Integers arrive as bigint and reals as number, so that 1 and 1.0 stay apart.
 *
 *            table            csv (RFC 4180)          json
 *   NULL     NULL             (nothing)               null
 *   text     as it is [1]     as it is, quoted [2]    string
 *   integer  all digits       all digits              number, all digits
 *   real     1.5, 1.0         1.5, 1.0                1.5, 1.0; infinities 9.0e+999
 *   blob     x'00ff'          x'00ff'                 string, base64
 *
 * [1] control characters as pictures (a line feed is one character wide), the text "NULL" in single quotes.
 * [2] when it is empty (so that it is not NULL) or holds a comma, a quote or a line end.
 */
export type SqlValue = null | string | number | bigint | Uint8Array;

export function tableText(value: SqlValue): string {
  if (typeof value !== "string") return value === null ? "NULL" : plainText(value);
  return value === "NULL" ? "'NULL'" : visibleText(value);
}

export function csvText(value: SqlValue): string {
  if (value === null) return "";
  return typeof value === "string" ? csvField(value) : plainText(value);
}

export function csvField(text: string): string {
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function jsonText(value: SqlValue): string {
  if (value === null) return "null";
  if (typeof value === "string") return JSON.stringify(value);
  if (value instanceof Uint8Array) return `"${Buffer.from(value).toString("base64")}"`;
  return plainText(value);
}

/** Numbers and blobs, in the form that SQL reads back. */
export function plainText(value: number | bigint | Uint8Array): string {
  if (value instanceof Uint8Array) return `x'${Buffer.from(value).toString("hex")}'`;
  return typeof value === "bigint" ? String(value) : realText(value);
}

function realText(value: number): string {
  if (Number.isNaN(value)) return "null";
  if (!Number.isFinite(value)) return value > 0 ? "9.0e+999" : "-9.0e+999";
  if (Object.is(value, -0)) return "-0.0";
  const text = String(value);
  if (text.includes(".")) return text;
  return text.includes("e") ? text.replace("e", ".0e") : `${text}.0`;
}

/** Control characters as pictures: what a database holds must not steer the terminal. */
export function visibleText(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, (character) => {
    const code = character.charCodeAt(0);
    if (code === 0x7f) return "\u2421";
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : "\ufffd";
  });
}
