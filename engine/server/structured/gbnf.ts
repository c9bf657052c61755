/** llama.cpp's GBNF as llguidance's Lark. */

import { wrong } from "../field-checks.ts";
import { literal } from "./lark.ts";

/** Whether a grammar is GBNF (or another form of BNF with `::=`) and not Lark. */
export function isGbnf(grammar: string): boolean {
  return grammar.split("\n").some((line) => /^\s*[\w-]+\s*::=/.test(line));
}

/** Throws `invalid_request` with the line. */
export function gbnfToLark(grammar: string, field: string): string {
  const reader = new GbnfReader(grammar, field);
  const rules = reader.rules();
  if (!rules.some(({ name }) => name === "root"))
    throw wrong(field, grammar, "a grammar with a rule root");
  const lines = rules.map(({ name, body }) => `${larkName(name)}: ${body}`);
  return [`start: ${larkName("root")}`, ...lines].join("\n");
}

/** Names of rules are small there; `r_` keeps them apart from its own. */
function larkName(name: string): string {
  const small = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return `r_${small.replaceAll("-", "_m_")}`;
}

interface Rule {
  readonly name: string;
  readonly body: string;
}

class GbnfReader {
  readonly #text: string;
  readonly #field: string;
  #at = 0;

  constructor(text: string, field: string) {
    this.#text = text;
    this.#field = field;
  }

  rules(): Rule[] {
    const rules: Rule[] = [];
    this.#space();
    while (this.#at < this.#text.length) {
      const name = this.#match(/[A-Za-z][\w-]*/y) ?? this.#refuse("the name of a rule");
      this.#space();
      if (this.#match(/::=/y) === undefined) this.#refuse("::=");
      this.#space();
      rules.push({ name, body: this.#alternatives() });
      this.#space();
    }
    return rules;
  }

  #alternatives(): string {
    const all = [this.#sequence()];
    while (this.#match(/\|/y) !== undefined) {
      this.#space();
      all.push(this.#sequence());
    }
    return all.join(" | ");
  }

  /** Up to `|`, `)`, the next rule or the end. An empty one matches the empty text. */
  #sequence(): string {
    const items: string[] = [];
    while (this.#at < this.#text.length && !/[|)]/.test(this.#char) && !this.#isAtRule()) {
      items.push(this.#atom() + this.#repeat());
      this.#space();
    }
    return items.length === 0 ? '""' : items.join(" ");
  }

  #atom(): string {
    const text = this.#match(/"(?:\\[\s\S]|[^"\\\n])*"/y);
    if (text !== undefined) return literal(this.#unescape(text.slice(1, -1)));
    const set = this.#match(/\[(?:\\[\s\S]|[^\]\\\n])+\]/y);
    if (set !== undefined) return `/${this.#set(set)}/`;
    if (this.#match(/\./y) !== undefined) return "/[\\s\\S]/";
    if (this.#match(/\(/y) !== undefined) {
      this.#space();
      const inside = this.#alternatives();
      if (this.#match(/\)/y) === undefined) this.#refuse(")");
      return `(${inside})`;
    }
    const name = this.#match(/[A-Za-z][\w-]*/y);
    return name === undefined ? this.#refuse("a text, a set, a group or a rule") : larkName(name);
  }

  #repeat(): string {
    const sign = this.#match(/[*+?]/y);
    if (sign !== undefined) return sign;
    const range = this.#match(/\{\s*\d+\s*(?:,\s*\d*\s*)?\}/y);
    return range === undefined ? "" : range.replaceAll(/\s/g, "");
  }

  /** What stands in a set means the same in a regular expression, but for what escapes it. */
  #set(set: string): string {
    const isNegated = set.startsWith("[^");
    const inside = set.slice(isNegated ? 2 : 1, -1);
    const chars = inside.replaceAll(
      /\\(x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[\s\S])|[\s\S]/gu,
      (found) =>
        found === "-" ? "-" : inSet(found.startsWith("\\") ? this.#unescape(found) : found),
    );
    return `[${isNegated ? "^" : ""}${chars}]`;
  }

  #unescape(text: string): string {
    return text.replaceAll(
      /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([\s\S]))/g,
      (_, x?: string, u?: string, long?: string, char?: string) => {
        const hex = x ?? u ?? long;
        if (hex === undefined) return ESCAPES[char ?? ""] ?? char ?? "";
        const code = Number.parseInt(hex, 16);
        return code > 0x10_ff_ff
          ? this.#refuse("a character of Unicode")
          : String.fromCodePoint(code);
      },
    );
  }

  /** White space, line breaks and comments. */
  #space(): void {
    this.#match(/(?:\s|#[^\n]*)+/y);
  }

  #isAtRule(): boolean {
    const pattern = /[A-Za-z][\w-]*\s*::=/y;
    pattern.lastIndex = this.#at;
    return pattern.test(this.#text);
  }

  get #char(): string {
    return this.#text.charAt(this.#at);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #refuse(wanted: string): never {
    const line = this.#text.slice(0, this.#at).split("\n").length;
    throw wrong(
      this.#field,
      this.#text.slice(this.#at, this.#at + 20),
      `${wanted} in line ${line}`,
    );
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

/** A character as a set of a regular expression has it. */
function inSet(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  return /[\w ]/.test(char) ? char : `\\x{${code.toString(16)}}`;
}
