/**
 * Writes prompts in the form that is sent: token ids, a text, or messages. Lengths are exact: a prompt of n tokens costs the
 * server n, what its tokenizer puts before a text (BOS) counted; of messages, the contents have the lengths, and the server's
 * chat template adds its own.
 */

import type { DatasetConfig } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import type { Answer, ChatMessage, Prompt } from "../types.ts";
import { exactText } from "./exact-text.ts";
import { BlocksPiece, DrawnPiece, type Drawing, type Piece, TextPiece } from "./pieces.ts";
import { type Streams, streams } from "./random-numbers.ts";
import { wordsOf } from "./words.ts";

export type PromptForm = DatasetConfig["promptForm"];

/** What one side says; the texts and ids of its pieces are joined. */
export interface Message {
  readonly role: "system" | "user";
  readonly pieces: readonly Piece[];
}

const NOTHING = new Int32Array(0);

export class PromptWriter {
  readonly form: PromptForm;
  /** What the server puts before a text. */
  readonly special: Int32Array;
  readonly #tokenizer: Tokenizer;

  constructor(tokenizer: Tokenizer, form: PromptForm) {
    this.form = form;
    this.#tokenizer = tokenizer;
    this.special =
      form === "chat" ? NOTHING : tokenizer.encode("", { parseSpecial: false, addSpecial: true });
  }

  /** Random words that open a prompt; throws `bad_config` where `numTokens` has no room for the special tokens. */
  opening(family: Streams, place: number, numTokens: number): Piece {
    this.#checkRoom(numTokens);
    return new DrawnPiece(this.#drawing(this.special), family, place, numTokens);
  }

  /** Random words that follow others. */
  following(family: Streams, place: number, numTokens: number): Piece {
    return new DrawnPiece(this.#drawing(NOTHING), family, place, numTokens);
  }

  /** A prompt of blocks that are named by hashes. */
  blocks(
    family: Streams,
    hashes: readonly number[],
    blockSize: number,
    numTokens: number,
  ): BlocksPiece {
    this.#checkRoom(numTokens);
    return new BlocksPiece(this.#drawing(this.special), family, hashes, blockSize, numTokens);
  }

  /** A text that was given, as the beginning of a prompt. */
  text(text: string): Piece {
    return new TextPiece(this.#tokenizer, text);
  }

  get vocabSize(): number {
    return this.#tokenizer.vocabSize;
  }

  /** Tokens of a text as such. */
  count(text: string): number {
    return this.#tokenizer.encode(text, { parseSpecial: false }).length;
  }

  /** Tokens of a first turn's prompt; unknown for messages. */
  numPromptTokens(messages: readonly Message[]): number | undefined {
    return this.form === "chat" ? undefined : numTokensOf(messages);
  }

  /** A prompt of these tokens, special ones among them. As text it costs as many where they are drawn words. */
  writeIds(ids: readonly number[]): Prompt {
    if (this.form === "tokens") return { kind: "tokens", tokenIds: ids };
    const text = this.#tokenizer.decode(ids.slice(this.special.length));
    return this.form === "text"
      ? { kind: "text", text }
      : { kind: "chat", messages: [{ role: "user", content: text.trimStart() }] };
  }

  /** The prompt of the last of these turns; `before` are the answers to those before it. */
  write(turns: readonly (readonly Message[])[], before: readonly Answer[]): Prompt {
    switch (this.form) {
      case "tokens":
        return { kind: "tokens", tokenIds: this.#tokenIds(turns, before) };
      case "text":
        return { kind: "text", text: this.#text(turns, before) };
      case "chat":
        return { kind: "chat", messages: this.#messages(turns, before) };
    }
  }

  /** Ids of an answer: the server's own, else those of its text. */
  answerIds({ tokenIds, text }: Answer): ArrayLike<number> {
    return tokenIds ?? this.#tokenizer.encode(text, { parseSpecial: false });
  }

  #tokenIds(turns: readonly (readonly Message[])[], before: readonly Answer[]): number[] {
    const ids: number[] = [];
    for (const [turn, messages] of turns.entries()) {
      for (const { pieces } of messages) for (const piece of pieces) append(ids, piece.tokenIds());
      const answer = before[turn];
      if (answer !== undefined) append(ids, this.answerIds(answer));
    }
    return ids;
  }

  #text(turns: readonly (readonly Message[])[], before: readonly Answer[]): string {
    return turns
      .map((messages, turn) => {
        const pieces = messages.flatMap((message) => message.pieces);
        const unwritten = turn === 0 ? this.special.length : 0;
        return this.#join(pieces, unwritten) + (before[turn]?.text ?? "");
      })
      .join("");
  }

  #messages(turns: readonly (readonly Message[])[], before: readonly Answer[]): ChatMessage[] {
    return turns.flatMap((messages, turn) => {
      const said: ChatMessage[] = messages.map(({ role, pieces }) => ({
        role,
        content: this.#join(pieces, 0),
      }));
      const answer = before[turn];
      return answer === undefined ? said : [...said, { role: "assistant", content: answer.text }];
    });
  }

  /** The pieces as one text. `unwritten` of their tokens are the server's. */
  #join(pieces: readonly Piece[], unwritten: number): string {
    const joined = pieces.map((piece) => piece.text()).join("");
    if (pieces.some(({ isDrawn }) => !isDrawn)) return joined;
    // Chat templates trim messages; a drawn one begins with a word that is one token without its blank too.
    const text = this.form === "chat" ? joined.trimStart() : joined;
    const { exact, all } = wordsOf(this.#tokenizer);
    if (exact) return text;
    const wanted = pieces.reduce((sum, { numTokens }) => sum + numTokens, 0) - unwritten;
    return exactText(this.#tokenizer, text, wanted, streams(0, text)(0), all);
  }

  #drawing(before: Int32Array): Drawing {
    return { tokenizer: this.#tokenizer, words: wordsOf(this.#tokenizer), before };
  }

  #checkRoom(numTokens: number): void {
    const { length } = this.special;
    if (numTokens >= length) return;
    throw new KvEngineError(
      "bad_config",
      `a prompt of ${numTokens} tokens cannot be made: this tokenizer puts ${length} before each`,
      { subject: "--dataset-name", hint: "ask for longer prompts" },
    );
  }
}

function numTokensOf(messages: readonly Message[]): number {
  return messages
    .flatMap(({ pieces }) => pieces)
    .reduce((sum, { numTokens }) => sum + numTokens, 0);
}

/** `ids.push(...more)` overflows the stack with long ones. */
export function append(ids: number[], more: ArrayLike<number>): void {
  for (let i = 0; i < more.length; i++) ids.push(more[i] as number);
}
