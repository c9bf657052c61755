/** Rows of text as tables for people and for programs. */

/** `table` is Markdown too, with its columns filled up. */
export type TableForm = "table" | "md" | "csv";

/** `left`: columns of text; the others are numbers. */
export function renderTable(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  left: ReadonlySet<string>,
  form: TableForm,
): string {
  if (form === "csv") return [heads, ...rows].map(csvLine).join("");
  const widths = heads.map((head, column) =>
    form === "md" ? 3 : Math.max(3, head.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string => {
    const padded = cells.map((cell, column) =>
      left.has(heads[column] ?? "")
        ? cell.padEnd(form === "md" ? 0 : (widths[column] ?? 0))
        : cell.padStart(form === "md" ? 0 : (widths[column] ?? 0)),
    );
    return `| ${padded.join(" | ")} |\n`;
  };
  const rule = heads.map((head, column) => {
    const width = widths[column] ?? 3;
    return left.has(head) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`;
  });
  return [line(heads), `| ${rule.join(" | ")} |\n`, ...rows.map(line)].join("");
}

/** RFC 4180, with line feeds. */
function csvLine(cells: readonly string[]): string {
  const quoted = cells.map((cell) =>
    /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell,
  );
  return `${quoted.join(",")}\n`;
}
