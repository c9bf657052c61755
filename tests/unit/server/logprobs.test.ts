import { describe, expect, test } from "bun:test";
import type { TopLogprobs } from "../../../engine/request.ts";
import { BOS_ID } from "../../support/byte-tokenizer.ts";
import { NO_TIMING, type Script, say } from "../../support/fake-engine-client.ts";
import { events, json, refusal, testApp } from "./test-app.ts";

const [A, B, C] = [97, 98, 99];
/** Each token is the second most probable one; with `top_logprobs` 1 it is not in its own list. */
const TOP: TopLogprobs = { rank: 2, tokenIds: [C, A, B], logprobs: [-0.125, -0.5, -Infinity] };

const topOf = (count: number): TopLogprobs => ({
  ...TOP,
  tokenIds: TOP.tokenIds.slice(0, count),
  logprobs: TOP.logprobs.slice(0, count),
});

/** Says "ab", with the prompt's numbers before, as far as they are asked for. */
const scored: Script = ({ promptTokenIds, sampling }) => {
  const { topLogprobs, promptLogprobs, maxTokens } = sampling;
  const tops = topLogprobs < 0 ? {} : { tops: [topOf(topLogprobs)] };
  const numScored = promptTokenIds.length - 1;
  const all = [
    { tokenIds: [A], logprobs: [-0.5], ...tops },
    { tokenIds: [B], logprobs: [-0.75], ...tops },
  ].slice(0, maxTokens);
  const usage = {
    promptTokens: promptTokenIds.length,
    completionTokens: all.length,
    cachedTokens: 0,
  };
  const finish = { reason: "length", usage, timing: NO_TIMING } as const;
  const prompt = {
    tokenIds: [],
    logprobs: [],
    promptLogprobs: {
      logprobs: Array.from({ length: numScored }, (_, i) => -(i + 1)),
      tops: Array.from({ length: numScored }, () => topOf(promptLogprobs)),
    },
  };
  return [...(promptLogprobs < 0 ? [] : [prompt]), ...all, { tokenIds: [], logprobs: [], finish }];
};

describe("log-probabilities of an answer", () => {
  test("of a chat: the most probable tokens, in order, streamed or not", async () => {
    const { chat, client } = testApp();
    client.script = scored;
    const top = [
      { token: "c", logprob: -0.125, bytes: [C] },
      { token: "a", logprob: -0.5, bytes: [A] },
      { token: "b", logprob: -9999, bytes: [B] },
    ];
    const expected = [
      { token: "a", logprob: -0.5, bytes: [A], top_logprobs: top },
      { token: "b", logprob: -0.75, bytes: [B], top_logprobs: top },
    ];
    const body = { logprobs: true, top_logprobs: 3 };
    expect((await json(chat(body))).choices[0].logprobs.content).toEqual(expected);
    const chunks = (await events(chat({ ...body, stream: true })))
      .slice(0, -1)
      .map((one) => JSON.parse(one));
    expect(chunks.flatMap((chunk) => chunk.choices[0].logprobs?.content ?? [])).toEqual(expected);
  });

  test("of completions: the most probable tokens and the chosen one", async () => {
    const { complete, client } = testApp();
    client.script = scored;
    const expected = [
      { c: -0.125, a: -0.5 },
      { c: -0.125, b: -0.75 },
    ];
    const { logprobs } = (await json(complete({ logprobs: 1 }))).choices[0];
    expect(logprobs).toEqual({
      tokens: ["a", "b"],
      token_logprobs: [-0.5, -0.75],
      top_logprobs: expected,
      text_offset: [0, 1],
    });
    const chunks = (await events(complete({ logprobs: 1, stream: true })))
      .slice(0, -1)
      .map((one) => JSON.parse(one));
    expect(chunks.flatMap((chunk) => chunk.choices[0].logprobs.top_logprobs)).toEqual(expected);
  });
});

describe("log-probabilities of a prompt", () => {
  const own = (logprob: number): object => ({ logprob, rank: 2, decoded_token: "i" });
  const others = {
    [C]: { logprob: -0.125, rank: 1, decoded_token: "c" },
    [A]: { logprob: -0.5, rank: 2, decoded_token: "a" },
  };

  test("are vLLM's: of each token an object by id, of the first one null", async () => {
    const { complete, client } = testApp();
    client.script = scored;
    const body = await json(complete({ prompt: "hii", prompt_logprobs: 2 }));
    expect(body.choices[0].prompt_logprobs).toEqual([
      null,
      { ...others, "105": own(-1) },
      { ...others, "105": own(-2) },
    ]);
    const alone = await json(complete({ prompt: "hi", prompt_logprobs: 0 }));
    expect(alone.choices[0].prompt_logprobs).toEqual([null, { "105": own(-1) }]);
    expect("prompt_logprobs" in (await json(complete({}))).choices[0]).toBe(false);
  });

  test("stand in every choice of their prompt, in a chat beside the choices", async () => {
    const { complete, chat, client } = testApp();
    client.script = scored;
    const { choices } = await json(complete({ prompt: ["hi", "h"], n: 2, prompt_logprobs: 0 }));
    expect(choices.map((one: { prompt_logprobs: unknown[] }) => one.prompt_logprobs)).toEqual([
      [null, { "105": own(-1) }],
      [null, { "105": own(-1) }],
      [null],
      [null],
    ]);
    const body = await json(chat({ prompt_logprobs: 0, n: 2 }));
    expect(body.prompt_logprobs).toHaveLength(body.usage.prompt_tokens);
    expect("prompt_logprobs" in (await json(chat({})))).toBe(false);
  });
});

describe("echo", () => {
  test("puts the prompt before the answer, of each choice and prompt", async () => {
    const { complete } = testApp();
    const texts = async (body: object): Promise<string[]> =>
      (await json(complete({ echo: true, ...body }))).choices.map(
        (one: { text: string }) => one.text,
      );
    expect(await texts({ prompt: ["one ", "two "], n: 2 })).toEqual([
      "one Hello",
      "one Hello",
      "two Hello",
      "two Hello",
    ]);
    expect(await texts({ prompt: [BOS_ID, 104, 105] })).toEqual(["hiHello"]);
    expect(await texts({ echo: false })).toEqual(["Hello"]);
  });

  test("streams it first", async () => {
    const { complete, client } = testApp();
    client.script = say("Hi");
    const chunks = (await events(complete({ echo: true, stream: true, n: 2 })))
      .slice(0, -1)
      .map((one) => JSON.parse(one).choices[0]);
    const of = (index: number): string[] =>
      chunks.filter((one) => one.index === index).map((one) => one.text);
    expect([of(0), of(1)]).toEqual([
      ["hi", "H", "i"],
      ["hi", "H", "i"],
    ]);
  });

  test("with logprobs has the prompt's too, the first of which nobody knows", async () => {
    const { complete, client } = testApp();
    client.script = scored;
    const body = await json(complete({ prompt: "hi", echo: true, logprobs: 1 }));
    expect(body.choices[0].text).toBe("hiab");
    expect(body.choices[0].logprobs).toEqual({
      tokens: ["h", "i", "a", "b"],
      token_logprobs: [null, -1, -0.5, -0.75],
      top_logprobs: [null, { c: -0.125, i: -1 }, { c: -0.125, a: -0.5 }, { c: -0.125, b: -0.75 }],
      text_offset: [0, 1, 2, 3],
    });
    expect("prompt_logprobs" in body.choices[0]).toBe(false);
    const both = await json(
      complete({ prompt: "hi", echo: true, logprobs: 0, prompt_logprobs: 1 }),
    );
    expect(both.choices[0].logprobs.top_logprobs.slice(0, 2)).toEqual([null, { i: -1 }]);
    expect(Object.keys(both.choices[0].prompt_logprobs[1])).toEqual(["99", "105"]);
  });

  test("with max_tokens 0 answers the prompt alone", async () => {
    const { complete, client } = testApp();
    client.script = scored;
    const { choices } = await json(
      complete({ prompt: "hi", echo: true, max_tokens: 0, logprobs: 0 }),
    );
    expect(choices[0]).toMatchObject({
      text: "hi",
      logprobs: { tokens: ["h", "i"], token_logprobs: [null, -1] },
    });
    expect(client.sequences[0]?.request.sampling.maxTokens).toBe(1);
    const chunks = (await events(complete({ echo: true, max_tokens: 0, stream: true })))
      .slice(0, -1)
      .map((one) => JSON.parse(one).choices[0]);
    expect(chunks.map((one) => one.text).join("")).toBe("hi");
    expect(chunks.at(-1).finish_reason).toBe("length");
  });

  test("with logprobs cannot be streamed", async () => {
    expect(
      await refusal(testApp().complete({ echo: true, logprobs: 0, stream: true })),
    ).toMatchObject({ status: 400, param: "echo" });
  });
});
