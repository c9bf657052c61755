/** Why an outside module could not be imported, and where. */

import { oneLine, showThrown } from "../../connectors/safe-text.ts";

/** Errors of one import that are told; the others are counted. */
const MOST_TOLD = 3;

/** Syntax errors with their file, line and column; what a module threw with the place that threw it. */
export function showImportError(thrown: unknown): string {
  // Several syntax errors come as one.
  const all: readonly unknown[] = thrown instanceof AggregateError ? thrown.errors : [thrown];
  const told = all.slice(0, MOST_TOLD).map(showOne).join("; ");
  return all.length > MOST_TOLD ? `${told}; and ${all.length - MOST_TOLD} more` : told;
}

function showOne(thrown: unknown): string {
  if (thrown instanceof BuildMessage && thrown.position !== null) {
    const { file, line, column } = thrown.position;
    return oneLine(`${file}:${line}:${column}: ${thrown.message}`);
  }
  const place = placeOf(thrown);
  return `${showThrown(thrown)}${place === undefined ? "" : ` (${place})`}`;
}

/** `file:line:column` of the innermost call. */
function placeOf(thrown: unknown): string | undefined {
  const stack = thrown instanceof Error ? String(thrown.stack) : "";
  return /^ +at (?:.*\()?([^()\n]+:\d+:\d+)\)?$/m.exec(stack)?.[1];
}
