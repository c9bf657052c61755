/** What prompts are put together from. Most are made when they are sent: a workload holds no tokens of prompts that only one request has. */

import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import type { Streams } from "./random-numbers.ts";
import { drawn, type Words } from "./words.ts";

/** A part of a prompt: the same tokens and the same text at every call. */
export interface Piece {
  /** Of `tokenIds`. */
  readonly numTokens: number;
  /** Whether its text may be changed to fit the number. */
  readonly isDrawn: boolean;
  /** As the engine gets them, what the server puts before a text among them where the piece opens a prompt. */
  tokenIds(): Int32Array;
  /** What is written of them: without what the server adds. */
  text(): string;
}

/** What pieces of words are drawn with. */
export interface Drawing {
  readonly tokenizer: Tokenizer;
  readonly words: Words;
  /** What stands before the words: the tokens that the server puts before a text, or none. */
  readonly before: Int32Array;
}

/** Random words. Pieces of the same family begin with different words, as long as there are enough. */
export class DrawnPiece implements Piece {
  readonly numTokens: number;
  readonly isDrawn = true;
  readonly #drawing: Drawing;
  readonly #family: Streams;
  readonly #place: number;

  constructor(drawing: Drawing, family: Streams, place: number, numTokens: number) {
    this.#drawing = drawing;
    this.#family = family;
    this.#place = place;
    this.numTokens = numTokens;
  }

  tokenIds(): Int32Array {
    const { before } = this.#drawing;
    const ids = new Int32Array(this.numTokens);
    ids.set(before);
    ids.set(this.#words(), before.length);
    return ids;
  }

  text(): string {
    return this.#drawing.tokenizer.decode(this.#words());
  }

  #words(): Int32Array {
    const { words, before } = this.#drawing;
    const count = this.numTokens - before.length;
    const ids = drawn(this.#family(this.#place), words.all, count);
    const offset = this.#family(0).below(words.first.length);
    if (count > 0) ids[0] = words.first[(offset + this.#place) % words.first.length] as number;
    return ids;
  }
}

/** Blocks that are named by hashes, each name with tokens of its own; the last one may be cut. Such a piece opens a prompt. */
export class BlocksPiece implements Piece {
  readonly numTokens: number;
  readonly isDrawn = true;
  readonly #drawing: Drawing;
  readonly #family: Streams;
  readonly #hashes: readonly number[];
  readonly #blockSize: number;

  /** `numTokens` is at most what the blocks hold. */
  constructor(
    drawing: Drawing,
    family: Streams,
    hashes: readonly number[],
    blockSize: number,
    numTokens: number,
  ) {
    this.#drawing = drawing;
    this.#family = family;
    this.#hashes = hashes;
    this.#blockSize = blockSize;
    this.numTokens = numTokens;
  }

  tokenIds(): Int32Array {
    return this.tokenIdsFrom(0);
  }

  /** Those from position `start` on. */
  tokenIdsFrom(start: number): Int32Array {
    const { words } = this.#drawing;
    const ids = new Int32Array(this.numTokens);
    for (let block = Math.floor(start / this.#blockSize); block < this.#hashes.length; block++) {
      const from = block * this.#blockSize;
      const to = Math.min(from + this.#blockSize, ids.length);
      const random = this.#family(this.#hashes[block] as number);
      for (let i = from; i < to; i++) ids[i] = words.all[random.below(words.all.length)] as number;
    }
    this.#open(ids);
    return ids.subarray(start);
  }

  text(): string {
    return this.#drawing.tokenizer.decode(this.tokenIds().subarray(this.#drawing.before.length));
  }

  /** What opens a prompt, and a word that may: the same for the same first block. */
  #open(ids: Int32Array): void {
    const { words, before } = this.#drawing;
    const hash = this.#hashes[0] ?? 0;
    if (ids.length > before.length)
      ids[before.length] = words.first[hash % words.first.length] as number;
    ids.set(before.subarray(0, ids.length));
  }
}

/** A prompt that was given. */
export class TextPiece implements Piece {
  readonly numTokens: number;
  readonly isDrawn = false;
  readonly #tokenizer: Tokenizer;
  readonly #text: string;

  constructor(tokenizer: Tokenizer, text: string) {
    this.#tokenizer = tokenizer;
    this.#text = text;
    this.numTokens = this.tokenIds().length;
  }

  tokenIds(): Int32Array {
    return this.#tokenizer.encode(this.#text, { parseSpecial: true, addSpecial: true });
  }

  text(): string {
    return this.#text;
  }
}

/** A piece that many prompts have: made once. */
export function shared(piece: Piece): Piece {
  let ids: Int32Array | undefined;
  let text: string | undefined;
  return {
    numTokens: piece.numTokens,
    isDrawn: piece.isDrawn,
    tokenIds: () => (ids ??= piece.tokenIds()),
    text: () => (text ??= piece.text()),
  };
}
