/** A grammar under construction: named rules, and how marks of the model's family are written. */

import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { literal } from "./lark.ts";

export class LarkRules {
  readonly #tokenizer: Tokenizer;
  readonly #rules: string[] = [];

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Adds a rule; answers its name. */
  add(name: string, body: string): string {
    this.#rules.push(`${name}: ${body}`);
    return name;
  }

  /** The grammar with a first rule. */
  text(start: string): string {
    return [`start: ${start}`, ...this.#rules].join("\n");
  }

  /** A text in which these marks are what the vocabulary has for them. */
  written(text: string, marks: readonly string[]): string {
    const mark = marks.find((one) => text.includes(one) && this.controlId(one) !== undefined);
    if (mark === undefined) return literal(text);
    const at = text.indexOf(mark);
    const parts = [text.slice(0, at), text.slice(at + mark.length)].map((part) =>
      part === "" ? "" : this.written(part, marks),
    );
    return [parts[0], this.mark(mark), parts[1]].filter(Boolean).join(" ");
  }

  mark(mark: string): string {
    const id = this.controlId(mark);
    return id === undefined ? literal(mark) : `<[${id}]>`;
  }

  /** The id of a mark that is a token of its own and no text; undefined = it is text. */
  controlId(mark: string): number | undefined {
    const [id, ...more] = this.#tokenizer.encode(mark, { parseSpecial: true });
    const isControl =
      more.length === 0 && id !== undefined && this.#tokenizer.tokenBytes(id).length === 0;
    return isControl ? id : undefined;
  }
}
