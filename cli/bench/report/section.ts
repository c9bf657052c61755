/** A titled table with remarks: what the terminal, Markdown and HTML show alike. */

export interface Section {
  readonly title: string;
  readonly columns: readonly string[];
  /** As long as `columns`. */
  readonly rows: readonly (readonly string[])[];
  /** All columns hold text; else the first one and those of `texts`, and the others hold numbers. */
  readonly textual?: boolean;
  readonly texts?: readonly string[];
  /** Sentences below the table. */
  readonly notes?: readonly string[];
}

/** Columns aligned with blanks; titles without marks, for a terminal. */
export function sectionText(section: Section): string {
  const { title, columns, rows, notes = [] } = section;
  const lines = columns.every((column) => column === "") ? rows : [columns, ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const aligned = lines.map((line) =>
    line
      .map((cell, i) =>
        holdsText(section, i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
  const body = [...aligned, ...notes].map((line) => `  ${line}\n`).join("");
  return `${title}\n${body}`;
}

export function sectionMarkdown(section: Section): string {
  const { title, columns, rows, notes = [] } = section;
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |\n`;
  const rule = columns.map((_, i) => (holdsText(section, i) ? "---" : "---:"));
  const table = `${line(columns)}${line(rule)}${rows.map(line).join("")}`;
  const remarks = notes.map((note) => `${note}\n`).join("\n");
  return `### ${title}\n\n${rows.length === 0 ? "" : table}${remarks === "" ? "" : `\n${remarks}`}`;
}

/** Else it holds numbers, which stand to the right. */
export function holdsText({ columns, textual, texts = [] }: Section, column: number): boolean {
  return column === 0 || textual === true || texts.includes(columns[column] ?? "");
}
