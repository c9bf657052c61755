/**
 * The tokens that generated prompts are made of: words that stay one token each when they are written one after another, so that
 * a prompt has the same tokens whether it is sent as ids or as text.
 */

import { KvEngineError } from "../../../engine/errors.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import { type RandomNumbers, streams } from "./random-numbers.ts";

export interface Words {
  /** In the order of their ids. */
  readonly all: Int32Array;
  /** Those of `all` that are one token without their leading blank too, as at the beginning of a message. */
  readonly first: Int32Array;
  /** Whether texts of these words have the words as their tokens; else texts must be adjusted. */
  readonly exact: boolean;
}

/** A blank and lower-case letters: what pre-tokenizers keep together and apart from the next. */
const WORD = /^ [a-z]{2,12}$/;
/** What vocabularies of bytes have instead. */
const LETTER = /^[a-z]$/;
/** More make prompts no better and the search slower. */
const MOST_WORDS = 8192;
const MOST_FIRST = 2048;
/** Below this, words repeat so much that letters are no worse. */
const FEWEST_WORDS = 64;
/** Texts that `exact` is judged by, and words of each. */
const [NUM_SAMPLES, SAMPLE_WORDS] = [64, 64];

/** Each tokenizer's, once found: a large vocabulary takes a moment, and both sides of a comparison have the same. */
const known = new WeakMap<Tokenizer, Words>();

/** Throws `unsupported` where the vocabulary has neither words nor letters. */
export function wordsOf(tokenizer: Tokenizer): Words {
  const words = known.get(tokenizer) ?? findWords(tokenizer);
  known.set(tokenizer, words);
  return words;
}

function findWords(tokenizer: Tokenizer): Words {
  const words = stable(tokenizer, WORD);
  const all = words.length >= FEWEST_WORDS ? words : stable(tokenizer, LETTER);
  if (all.length < 2) {
    throw new KvEngineError(
      "unsupported",
      "this tokenizer's vocabulary has no words and no letters to make prompts of",
      { subject: "--tokenizer", hint: "use a data set that is read from a file" },
    );
  }
  const first: number[] = [];
  for (const id of all) {
    if (first.length === MOST_FIRST) break;
    const bare = tokenizer.decode([id]).trimStart();
    if (encode(tokenizer, bare).length === 1) first.push(id);
  }
  return {
    all,
    first: first.length === 0 ? all : Int32Array.from(first),
    exact: first.length > 0 && stayApart(tokenizer, all),
  };
}

function stayApart(tokenizer: Tokenizer, words: Int32Array): boolean {
  const samples = streams(0, "words");
  for (let i = 0; i < NUM_SAMPLES; i++) {
    const ids = drawn(samples(i), words, SAMPLE_WORDS);
    if (!same(encode(tokenizer, tokenizer.decode(ids)), ids)) return false;
  }
  return true;
}

/** `count` words. */
export function drawn(random: RandomNumbers, words: Int32Array, count: number): Int32Array {
  const ids = new Int32Array(count);
  for (let i = 0; i < count; i++) ids[i] = words[random.below(words.length)] as number;
  return ids;
}

/** Ids of tokens of this form that their own text gives back. */
function stable(tokenizer: Tokenizer, form: RegExp): Int32Array {
  const ids: number[] = [];
  for (let id = 0; id < tokenizer.vocabSize && ids.length < MOST_WORDS; id++) {
    const text = tokenizer.tokenText(id);
    if (text === undefined || !form.test(text)) continue;
    if (same(encode(tokenizer, text), [id])) ids.push(id);
  }
  return Int32Array.from(ids);
}

function encode(tokenizer: Tokenizer, text: string): Int32Array {
  return tokenizer.encode(text, { parseSpecial: false });
}

function same(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
