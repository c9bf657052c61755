/** Finds the end of a JSON value in a text that comes one character at a time. Whether it is valid JSON is not its question. */

export class JsonValueEnd {
  #depth = 0;
  #inString = false;
  #escaped = false;
  #kind: "none" | "string" | "nested" | "scalar" = "none";

  /**
   * Takes the next character. `more`: it belongs to the value; `last`: it does, and the value is whole; `after`: it does not, the value
   * was whole before it (a number or a word has no end of its own).
   */
  push(char: string): "more" | "last" | "after" {
    if (this.#kind === "none") this.#kind = kindOf(char);
    if (this.#kind === "scalar") return /[\s,}\]]/.test(char) ? "after" : "more";
    if (this.#inString) return this.#pushString(char);
    if (char === '"') this.#inString = true;
    else if (char === "{" || char === "[") this.#depth++;
    else if (char === "}" || char === "]") {
      this.#depth--;
      if (this.#depth === 0) return "last";
    }
    return "more";
  }

  #pushString(char: string): "more" | "last" {
    if (this.#escaped) this.#escaped = false;
    else if (char === "\\") this.#escaped = true;
    else if (char === '"') {
      this.#inString = false;
      if (this.#kind === "string") return "last";
    }
    return "more";
  }
}

function kindOf(first: string): "string" | "nested" | "scalar" {
  if (first === '"') return "string";
  return first === "{" || first === "[" ? "nested" : "scalar";
}

/** The value of a JSON text; `undefined` where it is none. */
export function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller has a meaning for text that is no JSON
  }
}
