/** Why an outside module could not be imported, and where. */

import { oneLine, showThrown } from "../../connectors/safe-text.ts";

/** A syntax error with its file, line and column; what a module threw with the place that threw it. */
export function showImportError(thrown: unknown): string {
  // Several syntax errors come as one: the first is the one to mend.
  const first: unknown = thrown instanceof AggregateError ? thrown.errors[0] : thrown;
  if (first instanceof BuildMessage && first.position !== null) {
    const { file, line, column } = first.position;
    return oneLine(`${file}:${line}:${column}: ${first.message}`);
  }
  const place = placeOf(first);
  return `${showThrown(first)}${place === undefined ? "" : ` (${place})`}`;
}

/** `file:line:column` of the innermost call. */
function placeOf(thrown: unknown): string | undefined {
  const stack = thrown instanceof Error ? String(thrown.stack) : "";
  return /^ +at (?:.*\()?([^()\n]+:\d+:\d+)\)?$/m.exec(stack)?.[1];
}
