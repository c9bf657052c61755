import { describe, expect, test } from "bun:test";
import { DEFAULT_SAMPLING, NO_LOGPROBS } from "../../../engine/request.ts";
import { badWordIds } from "../../../engine/server/bad-words.ts";
import { ByteTokenizer, EOS_ID } from "../../support/byte-tokenizer.ts";
import { json, refusal, testApp } from "./test-app.ts";

describe("what a body says reaches the engine", () => {
  test("each field, in chats and completions alike", async () => {
    const { chat, complete, client } = testApp();
    const body = {
      max_tokens: 9,
      min_tokens: 3,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 7,
      min_p: 0.1,
      repetition_penalty: 1.5,
      presence_penalty: -2,
      frequency_penalty: 2,
      logit_bias: { "5": -100, "7": 0.5 },
      allowed_token_ids: [5, 7, 7],
      bad_words: ["no"],
      stop_token_ids: [11],
      prompt_logprobs: 4,
      cache_salt: "tenant",
    };
    expect((await chat({ ...body, logprobs: true, top_logprobs: 2 })).status).toBe(200);
    expect((await complete({ ...body, logprobs: 2 })).status).toBe(200);
    for (const { request } of client.sequences) {
      expect(request.cacheSalt).toBe("tenant");
      expect(request.priority).toBe(0);
      expect(request.leader).toBeUndefined();
      expect(request.sampling).toEqual({
        temperature: 0.5,
        topK: 7,
        topP: 0.9,
        minP: 0.1,
        seed: expect.any(Array),
        choice: 0,
        maxTokens: 9,
        stop: [],
        stopTokenIds: [EOS_ID, 11],
        minTokens: 3,
        repetitionPenalty: 1.5,
        presencePenalty: -2,
        frequencyPenalty: 2,
        logitBias: [
          [5, -100],
          [7, 0.5],
        ],
        allowedTokenIds: [5, 7],
        badWords: [[110, 111]],
        topLogprobs: 2,
        promptLogprobs: 4,
      });
    }
  });

  test("nothing said is nothing asked", async () => {
    const { chat, client } = testApp();
    await chat({
      logprobs: null,
      logit_bias: {},
      bad_words: [],
      min_tokens: 0,
      allowed_token_ids: null,
      cache_salt: null,
      priority: 0,
    });
    const { request } = client.sequences[0]!;
    expect("cacheSalt" in request).toBe(false);
    expect(request.sampling).toEqual({
      ...DEFAULT_SAMPLING,
      temperature: 1,
      seed: expect.any(Array) as never,
      maxTokens: 181,
      stopTokenIds: [EOS_ID],
    });
  });

  test("logprobs without a number are the token's own", async () => {
    const { chat, complete, client } = testApp();
    await chat({ logprobs: true });
    await chat({ logprobs: false });
    await complete({ logprobs: 0 });
    await complete({});
    expect(client.sequences.map(({ request }) => request.sampling.topLogprobs)).toEqual([
      0,
      NO_LOGPROBS,
      0,
      NO_LOGPROBS,
    ]);
  });

  test("min_tokens may be all of a max_tokens that nobody gave", async () => {
    const { complete } = testApp();
    expect((await complete({ min_tokens: 16 })).status).toBe(200);
    expect(await refusal(complete({ min_tokens: 17 }))).toMatchObject({
      param: "min_tokens",
      message: expect.stringContaining("max_tokens, which is 16"),
    });
    expect(
      await refusal(testApp().chat({ min_tokens: 4, max_completion_tokens: 3 })),
    ).toMatchObject({ message: expect.stringContaining("max_completion_tokens, which is 3") });
  });
});

describe("choices", () => {
  test("each but the first names the first of its prompt, which alone scores the prompt", async () => {
    const { complete, client } = testApp();
    await complete({ prompt: ["a", "b"], n: 3, prompt_logprobs: 1 });
    const requests = client.sequences.map(({ request }) => request);
    const [first, fourth] = [requests[0]?.id as string, requests[3]?.id as string];
    expect(requests.map(({ leader }) => leader)).toEqual([
      undefined,
      first,
      first,
      undefined,
      fourth,
      fourth,
    ]);
    expect(requests.map(({ sampling }) => sampling.promptLogprobs)).toEqual([
      1,
      NO_LOGPROBS,
      NO_LOGPROBS,
      1,
      NO_LOGPROBS,
      NO_LOGPROBS,
    ]);
  });

  test("cached tokens of a prompt count once", async () => {
    const { chat, client } = testApp();
    client.script = ({ sampling: { choice }, promptTokenIds }) => [
      {
        tokenIds: [97],
        logprobs: [0],
        finish: {
          reason: "length",
          usage: {
            promptTokens: promptTokenIds.length,
            completionTokens: 1,
            cachedTokens: choice === 0 ? 16 : 18,
          },
          timing: { queued: 0, prefill: 0, decode: 0 },
        },
      },
    ];
    expect((await json(chat({ n: 4 }))).usage).toEqual({
      prompt_tokens: 19,
      completion_tokens: 4,
      total_tokens: 23,
      prompt_tokens_details: { cached_tokens: 16 },
      completion_tokens_details: { reasoning_tokens: 0 },
    });
  });
});

describe("bad words", () => {
  /** A space and the letter after it are one token, as byte-level vocabularies have it. */
  class SpaceTokenizer extends ByteTokenizer {
    override encode(text: string): Int32Array {
      const bytes = [...new TextEncoder().encode(text)];
      return Int32Array.from(bytes[0] === 0x20 ? [200 + bytes[1]! - 97, ...bytes.slice(2)] : bytes);
    }
  }

  test("are meant at the start of a text and, where that is a token of its own, after a space", () => {
    expect(badWordIds(new SpaceTokenizer(), ["ab", " cd"])).toEqual([
      [97, 98],
      [200, 98],
      [99, 100],
      [202, 100],
    ]);
  });

  test("are not meant after a space where that takes more tokens", () => {
    expect(badWordIds(new ByteTokenizer(), ["ab"])).toEqual([[97, 98]]);
  });
});
