/** The tokenizer's part of GGUF metadata (`tokenizer.*`): plain data, made into a tokenizer elsewhere. */

import { KvEngineError } from "../errors.ts";
import type { GgufFile } from "./gguf.ts";
import { Metadata } from "./metadata.ts";

export interface GgufVocabulary {
  /** Kind: `gpt2` is byte-level BPE. */
  readonly model: string;
  /** Name of the pre-tokenizer. */
  readonly pre: string;
  readonly tokens: string[];
  /** llama.cpp's `llama_token_type` of each token; empty = all normal. */
  readonly tokenTypes: Int32Array;
  /** `left right`, best first. */
  readonly merges: string[];
  readonly bosId?: number;
  readonly eosId?: number;
  /** All tokens that end an answer. */
  readonly eosIds: readonly number[];
  readonly addBos?: boolean;
  readonly addEos?: boolean;
  /** Jinja. */
  readonly chatTemplate?: string;
}

const CONTROL = 3;
/** Keys of tokens that end an answer: of a sequence, of a turn, of a message. */
const END_KEYS = ["eos_token_id", "eot_token_id", "eom_token_id"];
/** Files seldom name all end tokens, so control tokens with these texts are taken as such, as llama.cpp does. */
const END_TEXTS: ReadonlySet<string> = new Set([
  "<|im_end|>",
  "<|endoftext|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<|end_of_text|>",
  "<end_of_turn>",
  "</s>",
  "<eos>",
]);

/** Throws `bad_model`. Whether there is a tokenizer of this kind is for the tokenizer to say. */
export function readVocabulary(file: GgufFile, vocabSize: number): GgufVocabulary {
  const metadata = new Metadata(file);
  const key = (name: string): string => `tokenizer.ggml.${name}`;
  const tokens = metadata.strings(key("tokens"));
  // An embedding may have rows beyond the vocabulary (padding), never fewer.
  if (tokens.length === 0 || tokens.length > vocabSize) {
    throw wrong(
      file,
      key("tokens"),
      `has ${tokens.length} tokens, allowed is 1 to ${vocabSize}, the rows of the embedding`,
    );
  }
  const tokenTypes = metadata.optionalInt32s(key("token_type"));
  if (tokenTypes.length !== 0 && tokenTypes.length !== tokens.length) {
    throw wrong(
      file,
      key("token_type"),
      `has ${tokenTypes.length} entries, but there are ${tokens.length} tokens`,
    );
  }
  const id = (name: string): number | undefined =>
    metadata.optionalInteger(key(name), { min: 0, max: tokens.length - 1 });
  const endIds = new Set(END_KEYS.map(id).filter((each) => each !== undefined));
  for (const [i, type] of tokenTypes.entries())
    if (type === CONTROL && END_TEXTS.has(tokens[i] ?? "")) endIds.add(i);
  return {
    model: metadata.string(key("model")),
    pre: metadata.optionalString(key("pre")) ?? "default",
    tokens: [...tokens],
    tokenTypes,
    merges: metadata.has(key("merges")) ? [...metadata.strings(key("merges"))] : [],
    eosIds: [...endIds],
    ...present("bosId", id("bos_token_id")),
    ...present("eosId", id("eos_token_id")),
    ...present("addBos", metadata.optionalBoolean(key("add_bos_token"))),
    ...present("addEos", metadata.optionalBoolean(key("add_eos_token"))),
    ...present("chatTemplate", metadata.optionalString("tokenizer.chat_template")),
  };
}

/** A property that is left out where it has no value. */
function present<K extends string, V>(name: K, value: V | undefined): { [key in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [key in K]?: V });
}

function wrong(file: GgufFile, key: string, problem: string): KvEngineError {
  return new KvEngineError("bad_model", `${file.path}: metadata ${key} ${problem}`, {
    subject: key,
  });
}
