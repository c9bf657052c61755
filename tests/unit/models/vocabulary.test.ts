import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { readGguf } from "../../../engine/models/gguf.ts";
import { type GgufVocabulary, readVocabulary } from "../../../engine/models/vocabulary.ts";
import {
  bool,
  int32s,
  type MetadataValue,
  text,
  texts,
  u32,
  writeGguf,
} from "../../support/gguf-writer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";
import { TINY, TINY_CHAT_TEMPLATE, tinyModel } from "../../support/tiny-model.ts";

const path = join(temporaryFolder(), "model.gguf");

async function vocabularyOf(
  metadata: Readonly<Record<string, MetadataValue>>,
  vocabSize = 10,
): Promise<GgufVocabulary> {
  await writeGguf(path, { metadata, tensors: [] });
  return readVocabulary(readGguf(path), vocabSize);
}

const SMALL = {
  "tokenizer.ggml.model": text("gpt2"),
  "tokenizer.ggml.tokens": texts(["a", "b", "<|eot_id|>", "<|im_end|>"]),
};

test("the tiny model's is whole", async () => {
  const vocabulary = await vocabularyOf(tinyModel().metadata, TINY.vocabSize);
  expect(vocabulary).toMatchObject({
    model: "gpt2",
    pre: "smollm",
    bosId: TINY.imStart,
    eosId: TINY.imEnd,
    addBos: false,
    chatTemplate: TINY_CHAT_TEMPLATE,
  });
  expect([
    vocabulary.tokens.length,
    vocabulary.tokenTypes.length,
    vocabulary.merges.length,
  ]).toEqual([300, 300, 41]);
  expect(new Set(vocabulary.tokens).size).toBe(300);
});

test("what is missing is left out", async () => {
  expect(await vocabularyOf(SMALL)).toEqual({
    model: "gpt2",
    pre: "default",
    tokens: ["a", "b", "<|eot_id|>", "<|im_end|>"],
    tokenTypes: new Int32Array(0),
    merges: [],
    eosIds: [],
  });
});

test("an answer ends at the tokens the file names, and at control tokens that are known to end one", async () => {
  const vocabulary = await vocabularyOf({
    ...SMALL,
    "tokenizer.ggml.token_type": int32s([1, 1, 3, 1]),
    "tokenizer.ggml.eos_token_id": u32(1),
    "tokenizer.ggml.add_eos_token": bool(true),
  });
  expect(vocabulary).toMatchObject({ eosId: 1, eosIds: [1, 2], addEos: true });
});

describe("a contradiction is a bad model:", () => {
  test.each([
    ["tokenizer.ggml.tokens", texts([]), "has 0 tokens, allowed is 1 to 10"],
    [
      "tokenizer.ggml.tokens",
      texts(Array.from({ length: 11 }, (_, i) => String(i))),
      "has 11 tokens, allowed is 1 to 10",
    ],
    ["tokenizer.ggml.tokens", int32s([1]), "allowed is a list of strings"],
    ["tokenizer.ggml.token_type", int32s([1]), "has 1 entries, but there are 4 tokens"],
    [
      "tokenizer.ggml.token_type",
      texts(["a", "b", "c", "d"]),
      "allowed is a list of 32-bit whole numbers",
    ],
    ["tokenizer.ggml.eos_token_id", u32(4), "is 4, allowed is a whole number from 0 to 3"],
    ["tokenizer.ggml.add_bos_token", u32(1), "is 1, allowed is true or false"],
    ["tokenizer.ggml.model", u32(1), "is 1, allowed is a string"],
    ["tokenizer.chat_template", u32(1), "is 1, allowed is a string"],
  ] as const)("%s", async (key, value, problem) => {
    const error = await thrownBy(() => vocabularyOf({ ...SMALL, [key]: value }));
    expect([error.code, error.subject]).toEqual(["bad_model", key]);
    expect(error.message).toContain(problem);
  });
});
