/** Text about values that come from a connector: showing one must neither throw nor forge a line of the log. */

/** Longest text that is shown of a foreign value. */
const MAX_LENGTH = 500;

/** On one line, without control characters, cut to `maxLength`. */
export function oneLine(text: string, maxLength: number = MAX_LENGTH): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)} …` : text;
  return cut.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, " ");
}

/** A value as a message shows it. */
export function showValue(value: unknown): string {
  try {
    if (typeof value === "string") return oneLine(JSON.stringify(value));
    if (typeof value === "function") return "a function";
    if (typeof value !== "object" || value === null) return oneLine(String(value));
    return Array.isArray(value) ? "an array" : "an object";
  } catch {
    return "a value that cannot be shown";
  }
}

/** What was thrown, whatever it is. */
export function showThrown(thrown: unknown): string {
  try {
    if (!(thrown instanceof Error)) return showValue(thrown);
    return oneLine(`${thrown.name}: ${thrown.message}`);
  } catch {
    return "an error that cannot be shown";
  }
}
