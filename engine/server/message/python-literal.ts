/** Python's literals as JSON: what models write as arguments of pythonic calls. */

/** JSON of one literal: numbers, texts, True, False, None, lists, tuples and dicts of them. `undefined` = it is none. */
export function jsonOfPython(text: string): string | undefined {
  const reader = new LiteralReader(text);
  const value = reader.value();
  return value === undefined || !reader.isAtEnd() ? undefined : value;
}

const WORDS: Readonly<Record<string, string>> = {
  None: "null",
  True: "true",
  False: "false",
  // Models mix the two languages up.
  null: "null",
  true: "true",
  false: "false",
};
const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  b: "\b",
  f: "\f",
  "\n": "",
};
/** Nested deeper, an argument is no call's. */
const MAX_DEPTH = 100;

class LiteralReader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  isAtEnd(): boolean {
    this.#space();
    return this.#at === this.#text.length;
  }

  value(): string | undefined {
    this.#space();
    const char = this.#text[this.#at];
    if (char === '"' || char === "'") return this.#string(char);
    if (char === "[") return this.#row("]");
    if (char === "(") return this.#row(")");
    if (char === "{") return this.#dict();
    const number = this.#match(/[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/y);
    if (number !== undefined) return jsonOfNumber(number);
    return WORDS[this.#match(/\w+/y) ?? ""];
  }

  #row(close: string): string | undefined {
    const items = this.#items(close, () => this.value());
    return items === undefined ? undefined : `[${items.join(", ")}]`;
  }

  #dict(): string | undefined {
    const items = this.#items("}", () => {
      const key = this.value();
      if (key === undefined || !this.#skip(":")) return undefined;
      const value = this.value();
      if (value === undefined) return undefined;
      return `${key.startsWith('"') ? key : JSON.stringify(key)}: ${value}`;
    });
    return items === undefined ? undefined : `{${items.join(", ")}}`;
  }

  #items(close: string, item: () => string | undefined): string[] | undefined {
    if (++this.#depth > MAX_DEPTH) return undefined;
    this.#at++;
    const items: string[] = [];
    while (!this.#skip(close)) {
      if (items.length > 0 && !this.#skip(",")) return undefined;
      // A comma may stand before the end.
      if (this.#skip(close)) break;
      const one = item();
      if (one === undefined) return undefined;
      items.push(one);
    }
    this.#depth--;
    return items;
  }

  #string(quote: string): string | undefined {
    let value = "";
    for (this.#at++; this.#at < this.#text.length; this.#at++) {
      const char = this.#text[this.#at] ?? "";
      if (char === quote) {
        this.#at++;
        return JSON.stringify(value);
      }
      value += char === "\\" ? this.#escape() : char;
    }
    return undefined;
  }

  /** The character that a backslash begins; leaves the place on its last character. */
  #escape(): string {
    this.#at++;
    const char = this.#text[this.#at] ?? "";
    const digits = /^(?:x([\da-fA-F]{2})|u([\da-fA-F]{4}))/.exec(
      this.#text.slice(this.#at, this.#at + 5),
    );
    const code = digits?.[1] ?? digits?.[2];
    if (code === undefined) return ESCAPES[char] ?? ("'\"\\".includes(char) ? char : `\\${char}`);
    this.#at += code.length;
    return String.fromCharCode(Number.parseInt(code, 16));
  }

  #skip(char: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #space(): void {
    this.#match(/\s*/y);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }
}

/** JSON has no `+1`, `.5`, `1.` or `1_000`. Digits beyond a double's stay as they were written. */
function jsonOfNumber(text: string): string {
  const plain = text.replaceAll("_", "").replace(/^\+/, "");
  const json = plain
    .replace(/^(-?)\./, "$10.")
    .replace(/\.(?=$|[eE])/, "")
    .replace(/^(-?)0+(?=\d)/, "$1");
  return json;
}
