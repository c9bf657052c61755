/**
 * JSON.parse with an error that says where: the engine's own parser names no position, so a text it refuses is read once
 * more by a small scanner that only looks for the first wrong character.
 */

import { KvEngineError } from "../errors.ts";

/** The value of a JSON text. Throws `invalid_request` with line, column and what was expected. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const fault = findFault(text);
    if (fault === undefined) {
      throw new KvEngineError(
        "invalid_request",
        "the body is JSON that cannot be read; it may be nested too deeply",
        {
          cause: error,
        },
      );
    }
    throw new KvEngineError(
      "invalid_request",
      `the body is not valid JSON: ${describe(text, fault)}`,
      { cause: error },
    );
  }
}

/**
 * The digits of an integer at the top level of a JSON object, as they were written: numbers beyond 2^53 lose their low
 * bits when parsed. Only for a `key` whose value is a number.
 */
export function integerText(text: string, key: string): string | undefined {
  const reviver = (name: string, value: unknown, context?: { source?: string }): unknown =>
    name === key && typeof value === "number" ? context?.source : value;
  const root = JSON.parse(text, reviver) as Record<string, unknown>;
  const written = root[key];
  return typeof written === "string" && /^-?[0-9]+$/.test(written) ? written : undefined;
}

interface Fault {
  readonly offset: number;
  readonly expected: string;
}

function describe(text: string, fault: Fault): string {
  const before = text.slice(0, fault.offset);
  const line = before.split("\n").length;
  const column = fault.offset - (before.lastIndexOf("\n") + 1) + 1;
  const found =
    fault.offset < text.length ? JSON.stringify(text[fault.offset]) : "the end of the text";
  return `line ${line}, column ${column} (offset ${fault.offset}): expected ${fault.expected}, found ${found}`;
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;
/** A string up to its closing quote, or up to the first character that may not stand in it. */
// oxlint-disable-next-line no-control-regex -- JSON forbids exactly these
const STRING_BODY = /(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/y;

/** The first place where `text` stops being JSON. Iterative: a hostile body may be nested a million deep. */
function findFault(text: string): Fault | undefined {
  const open: ("{" | "[")[] = [];
  let at = 0;
  const match = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    at = pattern.lastIndex;
    return true;
  };
  const skipSpace = (): void => {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  };
  const string = (): Fault | undefined => {
    at++;
    match(STRING_BODY);
    if (text[at] === '"') {
      at++;
      return undefined;
    }
    if (text[at] === "\\") return { offset: at, expected: "an escape that JSON knows" };
    return {
      offset: at,
      expected: at < text.length ? "no raw control character in a string" : "the end of a string",
    };
  };

  let want: "value" | "value or ]" | "key or }" | "key" | "after" = "value";
  for (;;) {
    skipSpace();
    const next = text[at];
    if (want === "after") {
      const inside = open.at(-1);
      if (inside === undefined)
        return at === text.length ? undefined : { offset: at, expected: "the end of the text" };
      if (next === ",") {
        at++;
        want = inside === "{" ? "key" : "value";
      } else if (next === (inside === "{" ? "}" : "]")) {
        at++;
        open.pop();
      } else {
        return { offset: at, expected: inside === "{" ? '"," or "}"' : '"," or "]"' };
      }
    } else if (want === "key" || want === "key or }") {
      if (next === "}" && want === "key or }") {
        at++;
        open.pop();
        want = "after";
        continue;
      }
      if (next !== '"') {
        return {
          offset: at,
          expected: want === "key" ? "a name in double quotes" : 'a name in double quotes or "}"',
        };
      }
      const fault = string();
      if (fault !== undefined) return fault;
      skipSpace();
      if (text[at] !== ":") return { offset: at, expected: '":"' };
      at++;
      want = "value";
    } else if (next === "{" || next === "[") {
      at++;
      open.push(next);
      want = next === "{" ? "key or }" : "value or ]";
    } else if (next === "]" && want === "value or ]") {
      at++;
      open.pop();
      want = "after";
    } else if (next === '"') {
      const fault = string();
      if (fault !== undefined) return fault;
      want = "after";
    } else if (match(NUMBER) || match(WORD)) {
      want = "after";
    } else {
      return { offset: at, expected: want === "value" ? "a value" : 'a value or "]"' };
    }
  }
}
