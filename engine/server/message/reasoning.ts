/** Reasoning and answer told apart by the marks of the model's family. */

import { findMark, startOfPartialMark, startOfTrailingSpace } from "./marks.ts";
import type { MessagePiece, PieceReader } from "./piece.ts";

/** What stands around a model's reasoning. */
export interface ReasoningFormat {
  readonly name: string;
  readonly open: string;
  readonly close: string;
}

export const REASONING_FORMATS: readonly ReasoningFormat[] = [
  // Qwen 3, DeepSeek R1 and what was distilled from it, GLM, Nemotron, SmolLM 3.
  { name: "think", open: "<think>", close: "</think>" },
  { name: "mistral", open: "[THINK]", close: "[/THINK]" },
  { name: "cohere", open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
  { name: "seed", open: "<seed:think>", close: "</seed:think>" },
  { name: "reasoning", open: "<reasoning>", close: "</reasoning>" },
];

/** Throws for a name that is none of `REASONING_FORMATS`. */
export function reasoningFormatNamed(name: string): ReasoningFormat {
  const format = REASONING_FORMATS.find((one) => one.name === name);
  if (format === undefined) throw new Error(`there is no reasoning format ${name}`);
  return format;
}

/** The format whose marks a chat template writes. */
export function reasoningFormatOf(template: string): ReasoningFormat | undefined {
  return REASONING_FORMATS.find(
    ({ open, close }) => template.includes(close) || template.includes(open),
  );
}

/** Whether a prompt ends inside reasoning: the template has opened it for the answer. */
export function endsInReasoning(prompt: string, { open, close }: ReasoningFormat): boolean {
  const opened = prompt.lastIndexOf(open);
  return opened >= 0 && opened > prompt.lastIndexOf(close);
}

/**
 * Reasoning at the start of an answer. White space around the marks belongs to neither side. A mark further on is text like any other:
 * an answer may be about marks.
 */
export class ReasoningReader implements PieceReader {
  readonly #format: ReasoningFormat;
  readonly #rest: PieceReader;
  #place: "start" | "inside" | "gap" | "outside";
  /** What may come before the reasoning's text: the opening mark, which some models write although the prompt has it; white space. */
  #before: "mark" | "space" | "nothing" = "mark";
  #held = "";

  /** `inside`: whether the prompt has opened the reasoning. What is no reasoning goes to `rest`. */
  constructor(format: ReasoningFormat, inside: boolean, rest: PieceReader) {
    this.#format = format;
    this.#rest = rest;
    this.#place = inside ? "inside" : "start";
  }

  /** Whether the next character may still be of the reasoning. */
  get isInside(): boolean {
    return this.#place === "inside";
  }

  /** Whether what has come may still become the opening mark. */
  get isUndecided(): boolean {
    return this.#place === "start";
  }

  push(text: string): MessagePiece[] {
    if (this.#place === "outside") return this.#rest.push(text);
    this.#held += text;
    if (this.#place === "start" && !this.#open()) return this.#isNoReasoning();
    const pieces: MessagePiece[] = [];
    if (this.#place === "inside") pieces.push(...this.#readInside());
    if (this.#place === "gap") pieces.push(...this.#readGap());
    return pieces;
  }

  end(): MessagePiece[] {
    const held = this.#held;
    this.#held = "";
    if (this.#place === "inside") {
      const text = (this.#before === "nothing" ? held : held.trimStart()).trimEnd();
      return text === "" ? this.#rest.end() : [{ kind: "reasoning", text }, ...this.#rest.end()];
    }
    if (this.#place === "gap") return this.#rest.end();
    return [...this.#rest.push(held), ...this.#rest.end()];
  }

  /** Takes the opening mark off what is held, where it is whole. */
  #open(): boolean {
    const begun = this.#held.trimStart();
    if (!begun.startsWith(this.#format.open)) return false;
    this.#held = begun.slice(this.#format.open.length);
    this.#place = "inside";
    this.#before = "space";
    return true;
  }

  /** What is held cannot become the opening mark any more: the answer has no reasoning. */
  #isNoReasoning(): MessagePiece[] {
    if (this.#format.open.startsWith(this.#held.trimStart())) return [];
    this.#place = "outside";
    return this.#rest.push(this.#take(this.#held.length));
  }

  #readInside(): MessagePiece[] {
    const { open, close } = this.#format;
    if (this.#before === "mark") {
      const begun = this.#held.trimStart();
      if (begun.startsWith(open)) this.#held = begun.slice(open.length);
      else if (open.startsWith(begun)) return [];
      this.#before = "space";
    }
    if (this.#before === "space") {
      this.#held = this.#held.trimStart();
      if (this.#held === "") return [];
      this.#before = "nothing";
    }
    const found = findMark(this.#held, [close]);
    if (found === undefined) {
      const partial = startOfPartialMark(this.#held, [close]);
      return reasoning(this.#take(startOfTrailingSpace(this.#held.slice(0, partial))));
    }
    const text = this.#held.slice(0, found.at).trimEnd();
    this.#held = this.#held.slice(found.at + close.length);
    this.#place = "gap";
    return reasoning(text);
  }

  #readGap(): MessagePiece[] {
    const text = this.#held.trimStart();
    this.#held = "";
    if (text === "") return [];
    this.#place = "outside";
    return this.#rest.push(text);
  }

  #take(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return text;
  }
}

function reasoning(text: string): MessagePiece[] {
  return text === "" ? [] : [{ kind: "reasoning", text }];
}

/** All that comes is the answer's text. */
export class ContentReader implements PieceReader {
  push(text: string): MessagePiece[] {
    return text === "" ? [] : [{ kind: "content", text }];
  }

  end(): MessagePiece[] {
    return [];
  }
}
