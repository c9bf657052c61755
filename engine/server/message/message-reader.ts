/** The text of an answer, as it comes, into reasoning, content and calls of tools. */

import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { TokenBytes } from "../../tokenizer/detokenizer.ts";
import type { CallFormat } from "./call-formats.ts";
import { showMarks } from "./marks.ts";
import type { MessagePiece, PieceReader } from "./piece.ts";
import { ContentReader, type ReasoningFormat, ReasoningReader } from "./reasoning.ts";
import { type ToolCallOptions, ToolCallReader } from "./tool-calls.ts";

/** How the answers to one request are to be read. */
export interface MessageForm {
  readonly reasoning?: { readonly format: ReasoningFormat; readonly isInside: boolean } | undefined;
  readonly calls?: (ToolCallOptions & { readonly format: CallFormat }) | undefined;
}

/** The tokens' texts with those marks shown that the form needs to see. */
export function tokensOf(form: MessageForm, tokenizer: Tokenizer): TokenBytes {
  const { reasoning, calls } = form;
  const marks = [
    ...(reasoning === undefined ? [] : [reasoning.format.open, reasoning.format.close]),
    ...(calls === undefined ? [] : [...calls.format.open, ...calls.format.close]),
  ];
  return marks.length === 0 ? tokenizer : showMarks(tokenizer, marks);
}

/** Reads one choice's answer. */
export class MessageReader {
  readonly #reader: PieceReader;
  readonly #reasoning: ReasoningReader | undefined;
  readonly #calls: ToolCallReader | undefined;
  #reasoningTokens = 0;
  /** Tokens that may have been the opening mark's. */
  #undecided = 0;

  constructor({ reasoning, calls }: MessageForm) {
    this.#calls = calls === undefined ? undefined : new ToolCallReader(calls.format, calls);
    const rest = this.#calls ?? new ContentReader();
    this.#reasoning =
      reasoning === undefined
        ? undefined
        : new ReasoningReader(reasoning.format, reasoning.isInside, rest);
    this.#reader = this.#reasoning ?? rest;
  }

  /** The next text of the answer, and how many tokens it came with. */
  push(text: string, numTokens: number): MessagePiece[] {
    const wasInside = this.#isInside();
    const pieces = this.#reader.push(text);
    this.#undecided += numTokens;
    if (this.#reasoning?.isUndecided === true) return pieces;
    // A step brings one token as a rule; those that came with the closing mark count as reasoning.
    const isReasoning = wasInside || this.#isInside();
    if (isReasoning || pieces.some(({ kind }) => kind === "reasoning"))
      this.#reasoningTokens += this.#undecided;
    this.#undecided = 0;
    return pieces;
  }

  end(): MessagePiece[] {
    return this.#reader.end();
  }

  #isInside(): boolean {
    return this.#reasoning?.isInside === true;
  }

  get reasoningTokens(): number {
    return this.#reasoningTokens;
  }

  get hasCalled(): boolean {
    return (this.#calls?.numCalls ?? 0) > 0;
  }
}
