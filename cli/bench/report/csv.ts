/** Tables for spreadsheets: RFC 4180. */

/** A line for each row; columns in the order in which they come first, empty where a row does not have them. */
export function csvTable(
  rows: readonly Readonly<Record<string, string | number | boolean>>[],
): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ""))];
  return lines.map((line) => `${line.map((cell) => csvCell(String(cell))).join(",")}\r\n`).join("");
}

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
