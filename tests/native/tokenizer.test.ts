import { beforeAll, describe, expect, test } from "bun:test";
import { KvEngineError } from "../../engine/errors.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { Detokenizer } from "../../engine/tokenizer/detokenizer.ts";
import {
  createTokenizer,
  createTokenizerFromJson,
  type Tokenizer,
  type TokenizerVocabulary,
} from "../../engine/tokenizer/tokenizer.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { TOKENIZER_CORPUS } from "../support/tokenizer-corpus.ts";

const NORMAL = 1;
const CONTROL = 3;
const USER_DEFINED = 4;

function errorOf(call: () => unknown): KvEngineError {
  try {
    call();
  } catch (error) {
    if (error instanceof KvEngineError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** Six tokens: `<s>`, `a`, `b`, `ab`, `<think>`, `ć` (the byte 0x07's symbol is `ć`). */
function tinyVocabulary(changes: Partial<TokenizerVocabulary> = {}): TokenizerVocabulary {
  return {
    model: "gpt2",
    pre: "gpt-2",
    tokens: ["<s>", "a", "b", "ab", "<think>", "ć"],
    tokenTypes: Int32Array.of(CONTROL, NORMAL, NORMAL, NORMAL, USER_DEFINED, NORMAL),
    merges: ["a b"],
    bosId: 0,
    ...changes,
  };
}

function ids(
  tokenizer: Tokenizer,
  text: string,
  parseSpecial = true,
  addSpecial = false,
): number[] {
  return Array.from(tokenizer.encode(text, { parseSpecial, addSpecial }));
}

describe("the default model's tokenizer", () => {
  let tokenizer: Tokenizer;
  let vocabulary: TokenizerVocabulary;
  beforeAll(async () => {
    vocabulary = (await loadModel(defaultModelPath())).vocabulary;
    tokenizer = createTokenizer(vocabulary);
  });

  test("gives llama.cpp's ids for the whole corpus, with control tokens found and as plain text", () => {
    expect(TOKENIZER_CORPUS.length).toBeGreaterThan(150);
    for (const { text, special, plain } of TOKENIZER_CORPUS) {
      expect({ text, ids: ids(tokenizer, text, true) }).toEqual({ text, ids: [...special] });
      expect({ text, ids: ids(tokenizer, text, false) }).toEqual({ text, ids: [...plain] });
    }
  });

  test("gives the text back, except bytes that are no tokens and control tokens", () => {
    const known = new Set<number>();
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      const bytes = tokenizer.tokenBytes(id);
      if (bytes.length === 1) known.add(bytes[0] ?? 0);
    }
    for (const { text, plain } of TOKENIZER_CORPUS) {
      const bytes = new TextEncoder().encode(text).filter((byte) => known.has(byte));
      expect(tokenizer.decode(plain)).toBe(
        new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
      );
    }
    expect(tokenizer.decode(ids(tokenizer, "<|im_start|>user\nHi<|im_end|>\n"))).toBe("user\nHi\n");
  });

  test("detokenises in two pieces to the whole text at every split point of the corpus", () => {
    for (const { plain, special } of TOKENIZER_CORPUS) {
      for (const sequence of [plain, special]) {
        const whole = tokenizer.decode(sequence);
        for (let cut = 0; cut <= sequence.length; cut++) {
          const detokenizer = new Detokenizer(tokenizer);
          const first = detokenizer.push(sequence.slice(0, cut));
          const text = first + detokenizer.push(sequence.slice(cut)) + detokenizer.flush();
          if (text !== whole || !first.isWellFormed())
            expect({ cut, text }).toEqual({ cut, text: whole });
        }
      }
    }
  });

  test("replaces an unpaired surrogate as UTF-8 does", () => {
    expect(ids(tokenizer, "a\ud83d")).toEqual(ids(tokenizer, "a\ufffd"));
    expect(ids(tokenizer, "\ude00b")).toEqual(ids(tokenizer, "\ufffdb"));
  });

  test("gives no bytes for an id outside the vocabulary", () => {
    for (const id of [-1, tokenizer.vocabSize, 2 ** 31 - 1, 2 ** 40, Number.NaN, 0.5]) {
      expect(tokenizer.tokenBytes(id).length).toBe(0);
    }
  });

  test("is the same from two instances", () => {
    const other = createTokenizer(vocabulary);
    expect(ids(other, "one and the same")).toEqual(ids(tokenizer, "one and the same"));
    expect(other.vocabSize).toBe(tokenizer.vocabSize);
  });
});

describe("a GGUF vocabulary", () => {
  test("finds control tokens only when asked, user-defined ones always", () => {
    const tokenizer = createTokenizer(
      tinyVocabulary({ tokens: ["<s>", "<", "s", ">", "<think>", "a"], merges: [] }),
    );
    expect(ids(tokenizer, "a<s><think>", true)).toEqual([5, 0, 4]);
    expect(ids(tokenizer, "a<s><think>", false)).toEqual([5, 1, 2, 3, 4]);
    expect(tokenizer.decode([0, 4])).toBe("<think>");
  });

  test("adds BOS and EOS only when asked and where it says so", () => {
    const tokenizer = createTokenizer(tinyVocabulary({ addBos: true, addEos: true, eosId: 4 }));
    expect(ids(tokenizer, "ab", true, true)).toEqual([0, 3, 4]);
    expect(ids(tokenizer, "ab", true, false)).toEqual([3]);
    expect(ids(createTokenizer(tinyVocabulary()), "ab", true, true)).toEqual([3]);
    expect(ids(createTokenizer(tinyVocabulary({ pre: "llama-bpe" })), "ab", true, true)).toEqual([
      0, 3,
    ]);
  });

  test("with duplicates and empty tokens still answers", () => {
    const tokenizer = createTokenizer(
      tinyVocabulary({ tokens: ["", "a", "a", "", "", "b"], merges: ["a b"].slice(1) }),
    );
    expect(ids(tokenizer, "ab")).toEqual([2, 5]);
    expect(tokenizer.decode([0, 1, 2, 3, 4, 5])).toBe("aab");
  });

  const refused: readonly [string, Partial<TokenizerVocabulary>, string, string][] = [
    [
      "no tokens",
      { tokens: [], tokenTypes: new Int32Array(0), merges: [] },
      "bad_model",
      "tokenizer.ggml.tokens",
    ],
    ["too few types", { tokenTypes: Int32Array.of(1) }, "bad_model", "1 types for 6 tokens"],
    [
      "an unknown type",
      { tokenTypes: Int32Array.of(1, 1, 9, 1, 1, 1) },
      "bad_model",
      "token 2 has type 9",
    ],
    ["a merge of absent tokens", { merges: ["a b", "x y"] }, "bad_model", "merges: Token `x`"],
    ["a merge whose product is absent", { merges: ["b a"] }, "bad_model", "merges: Token `ba`"],
    ["a merge without a space", { merges: ["ab"] }, "bad_model", "two tokens"],
    ["BOS outside the vocabulary", { addBos: true, bosId: 6 }, "bad_model", "bos_token_id: 6"],
    ["EOS to add but not named", { addEos: true }, "bad_model", "eos_token_id is missing"],
    ["another kind of tokenizer", { model: "llama" }, "unsupported", "gpt2"],
    ["an unknown pre-tokenizer", { pre: "elvish" }, "unsupported", "smollm"],
  ];
  for (const [name, changes, code, message] of refused) {
    test(`with ${name} is refused`, () => {
      const error = errorOf(() => createTokenizer(tinyVocabulary(changes)));
      expect({ code: error.code, message: error.message }).toEqual({
        code: code as KvEngineError["code"],
        message: expect.stringContaining(message) as string,
      });
    });
  }
});

describe("a tokenizer.json", () => {
  const json = {
    version: "1.0",
    added_tokens: [
      {
        id: 8,
        content: "<s>",
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
      {
        id: 9,
        content: "<think>",
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: false,
      },
    ],
    pre_tokenizer: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      vocab: { a: 0, b: 1, ab: 2, "<": 3, s: 4, ">": 5, Ã: 6, "©": 7 },
      merges: ["a b"],
    },
  };

  test("encodes, finds special tokens only when asked, and decodes", () => {
    const tokenizer = createTokenizerFromJson(JSON.stringify(json));
    expect(ids(tokenizer, "ab<s>é<think>", true)).toEqual([2, 8, 6, 7, 9]);
    expect(ids(tokenizer, "ab<s>é<think>", false)).toEqual([2, 3, 4, 5, 6, 7, 9]);
    expect(tokenizer.decode([2, 8, 6, 7, 9])).toBe("abé<think>");
    expect(tokenizer.vocabSize).toBe(10);
  });

  test("that is malformed or of another kind is refused", () => {
    const refusals: readonly [string, string][] = [
      ["", "bad_model"],
      ["{}", "bad_model"],
      ["[1", "bad_model"],
      [JSON.stringify({ ...json, model: { ...json.model, merges: ["a zzz"] } }), "bad_model"],
      [
        JSON.stringify({
          ...json,
          model: { ...json.model, vocab: { ...json.model.vocab, "©": 9 }, merges: [] },
        }),
        "bad_model",
      ],
      [
        JSON.stringify({
          ...json,
          model: { ...json.model, vocab: { a: 4_000_000_000 }, merges: [] },
        }),
        "bad_model",
      ],
      [JSON.stringify({ ...json, decoder: null }), "unsupported"],
    ];
    for (const [text, code] of refusals) {
      expect(errorOf(() => createTokenizerFromJson(text)).code).toBe(code as KvEngineError["code"]);
    }
  });
});
