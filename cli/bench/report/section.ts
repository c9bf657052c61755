/** A titled table with remarks: what the terminal, Markdown and HTML show alike. */

export interface Section {
  readonly title: string;
  readonly columns: readonly string[];
  /** As long as `columns`. */
  readonly rows: readonly (readonly string[])[];
  /** All columns hold text; else those after the first hold numbers. */
  readonly textual?: boolean;
  /** Sentences below the table. */
  readonly notes?: readonly string[];
}

/** Columns aligned with blanks; titles without marks, for a terminal. */
export function sectionText({ title, columns, rows, textual, notes = [] }: Section): string {
  const lines = columns.every((column) => column === "") ? rows : [columns, ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const aligned = lines.map((line) =>
    line
      .map((cell, i) =>
        i === 0 || textual ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
  const body = [...aligned, ...notes].map((line) => `  ${line}\n`).join("");
  return `${title}\n${body}`;
}

export function sectionMarkdown({ title, columns, rows, textual, notes = [] }: Section): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |\n`;
  const rule = columns.map((_, i) => (i === 0 || textual ? "---" : "---:"));
  const table = `${line(columns)}${line(rule)}${rows.map(line).join("")}`;
  const remarks = notes.map((note) => `${note}\n`).join("\n");
  return `### ${title}\n\n${rows.length === 0 ? "" : table}${remarks === "" ? "" : `\n${remarks}`}`;
}
