/** Pieces of grammars in llguidance's Lark: what may stand on the right side of a rule. */

/** A text as it is. */
export function literal(text: string): string {
  // Its strings are JSON's, and DEL must be escaped.
  return JSON.stringify(text).replaceAll("\u007f", "\\u007f");
}

/** A text that matches as a whole. */
export function regex(source: string): string {
  const whole = source.replace(/^\^/, "").replace(/(?<!\\)((?:\\\\)*)\$$/, "$1");
  return `/${escapeSlashes(whole)}/`;
}

/** The same with every `/` and line break escaped. */
function escapeSlashes(source: string): string {
  return source.replaceAll(/\\[\s\S]|[/\n\r\t]/g, (found) => ESCAPES[found] ?? found);
}

const ESCAPES: Readonly<Record<string, string>> = {
  "/": "\\/",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\\\n": "\\n",
};

/**
 * A document that a JSON Schema allows, on one line, with a space behind each comma and colon: what is free to have any white space
 * often has too much of it.
 */
export function json(schema: object): string {
  return `%json ${JSON.stringify({ ...schema, "x-guidance": WRITTEN })}`;
}

const WRITTEN = { whitespace_flexible: false, item_separator: ", ", key_separator: ": " } as const;

export function oneOf(choices: readonly string[]): string {
  return choices.join(" | ");
}
