import { describe, expect, test } from "bun:test";
import type { RequestRecord } from "../../../cli/bench/types.ts";
import {
  data,
  DONE,
  event,
  recordOf,
  streamed,
  TestClient,
  usage,
} from "../../support/bench-client.ts";

describe("the record of a stream", () => {
  test("has the times at which its chunks came, to the millisecond", async () => {
    const { record, firstChunks } = await streamed([
      [25, event("a")],
      [40, event("b")],
      [41, event("c")],
      [50, data({ choices: [], ...usage(5, 3) }) + DONE],
    ]);
    expect(record).toEqual({
      conversation: "c0",
      turn: 0,
      sentAt: 0,
      chunks: [
        { at: 25, numTokens: 1 },
        { at: 40, numTokens: 1 },
        { at: 41, numTokens: 1 },
      ],
      endedAt: 50,
      promptTokens: 5,
      outputTokens: 3,
      countedBy: "usage",
      status: 200,
      outcome: "ok",
      text: "abc",
    });
    expect(firstChunks).toEqual([25]);
  });

  test("counts the tokens of each chunk where the usage so far is told", async () => {
    const record = await recordOf([
      [1, event("a", usage(5, 1))],
      [2, event("bc", usage(5, 4))],
      [3, event("", usage(5, 5), { finish_reason: "stop" })],
      [4, data({ choices: [], ...usage(5, 5) }) + DONE],
    ]);
    expect(record.chunks).toEqual([
      { at: 1, numTokens: 1 },
      { at: 2, numTokens: 3 },
      { at: 3, numTokens: 1 },
    ]);
    expect([record.outputTokens, record.countedBy]).toEqual([5, "usage"]);
  });

  test("does not take the sum at the end for the tokens of the last chunk", async () => {
    // llama-server's last chunk has no text, the usage and the finish reason.
    const record = await recordOf([
      [1, event("a")],
      [2, event("b")],
      [3, event("", usage(5, 3), { finish_reason: "length" }) + DONE],
    ]);
    expect(record.chunks).toEqual([
      { at: 1, numTokens: 0 },
      { at: 2, numTokens: 0 },
    ]);
    expect(record.outputTokens).toBe(3);
  });

  test("counts by llama-server's timings in each chunk", async () => {
    const timings = (n: number): object => ({ timings: { predicted_n: n, cache_n: 7 } });
    const record = await recordOf([
      [1, event("a", timings(1))],
      [2, event("b", timings(3))],
      [3, event("", { ...usage(9, 3), ...timings(3) }, { finish_reason: "length" }) + DONE],
    ]);
    expect(record.chunks.map(({ numTokens }) => numTokens)).toEqual([1, 2]);
    expect([record.promptTokens, record.outputTokens, record.cachedTokens]).toEqual([9, 3, 7]);
  });

  test("counts by token ids where they are told, and hands them on", async () => {
    const { record, tokenIds } = await streamed([
      [1, event("a", {}, { token_ids: [11, 12] })],
      [2, event("b", {}, { token_ids: [13] }) + DONE],
    ]);
    expect(record.chunks.map(({ numTokens }) => numTokens)).toEqual([2, 1]);
    expect(tokenIds).toEqual([11, 12, 13]);
  });

  test("leaves out chunks without output: a role, a comment, a ping", async () => {
    const role = data({ choices: [{ index: 0, delta: { role: "assistant", content: "" } }] });
    const record = await recordOf([
      [1, role],
      [2, ": ping\n\n"],
      [3, data({ choices: [{ index: 0, delta: { content: "a" } }] })],
      [4, data({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }) + DONE],
    ]);
    expect(record.chunks.map(({ at }) => at)).toEqual([3]);
    expect(record.text).toBe("a");
  });

  test("takes reasoning and tool calls for output", async () => {
    const delta = (one: object): string => data({ choices: [{ index: 0, delta: one }] });
    const record = await recordOf([
      [1, delta({ reasoning_content: "hm" })],
      [2, delta({ reasoning: "!" })],
      [3, delta({ tool_calls: [{ index: 0, function: { name: "f", arguments: "{}" } }] })],
      [4, DONE],
    ]);
    expect([record.chunks.length, record.text]).toEqual([3, "hm!f{}"]);
  });

  test("has what was cached, by tier where that is told", async () => {
    const details = { cached_tokens: 6, cached_tokens_details: { device: 4, disk: 2 } };
    const ours = await recordOf([
      [1, event("a", usage(8, 1, { prompt_tokens_details: details })) + DONE],
    ]);
    expect([ours.cachedTokens, ours.cachedByTier]).toEqual([6, { device: 4, disk: 2 }]);
    const tiers = { device: 4, host: 1, storage: 2, storage_backend: "file" };
    const sglang = await recordOf([
      [1, event("a", { ...usage(8, 1), sglext: { cached_tokens_details: tiers } }) + DONE],
    ]);
    expect(sglang.cachedByTier).toEqual({ device: 4, host: 1, disk: 2 });
  });

  test("is whole with a finish reason alone, for servers that do not say [DONE]", async () => {
    const record = await recordOf([[1, event("a", {}, { finish_reason: "stop" })]]);
    expect(record.outcome).toBe("ok");
  });

  test("ends with [DONE], though the connection goes on", async () => {
    using client = new TestClient();
    const sent = client.send();
    const exchange = await client.server.next();
    exchange.openStream();
    exchange.chunk(event("a") + DONE);
    expect((await sent).record.outcome).toBe("ok");
  });

  test("has prompt tokens as they were sent where the server does not tell", async () => {
    const record = await recordOf([[1, event("a") + DONE]], {}, { numPromptTokens: 9 });
    expect(record.promptTokens).toBe(9);
  });
});

describe("a server that tells no usage", () => {
  test("has its tokens counted by the tokenizer", async () => {
    const record = await recordOf([[1, event("one two") + DONE]], {
      countTokens: (text) => text.split(" ").length,
    });
    expect([record.outputTokens, record.countedBy]).toEqual([2, "tokenizer"]);
    expect(record.warning).toStartWith("the server told no usage:");
  });

  test("has its chunks counted where there is no tokenizer", async () => {
    const record = await recordOf([[1, event("a") + event("b") + DONE]]);
    expect([record.outputTokens, record.countedBy]).toEqual([2, "chunks"]);
  });
});

describe("a wrong usage", () => {
  const wrong = async (value: unknown): Promise<RequestRecord> =>
    recordOf([[1, event("a") + data({ choices: [], usage: value }) + DONE]]);

  test("is named, and the tokens are counted here", async () => {
    const cases = [
      [{ completion_tokens: -1 }, "usage.completion_tokens is -1, not a number of tokens"],
      [{ completion_tokens: 1.5 }, "usage.completion_tokens is 1.5"],
      [{ completion_tokens: "many" }, 'usage.completion_tokens is "many"'],
      [{ prompt_tokens: {} }, "usage.prompt_tokens is {}"],
      ["lots", 'usage is "lots", not an object'],
      [[], "usage is [], not an object"],
    ] as const;
    for (const [value, says] of cases) {
      const record = await wrong(value);
      expect(record.warning).toContain(`the server's usage is wrong: ${says}`);
      expect([record.outcome, record.outputTokens, record.countedBy]).toEqual(["ok", 1, "chunks"]);
    }
  });

  test("of no tokens for chunks with text is not believed", async () => {
    const record = await wrong({ completion_tokens: 0 });
    expect([record.outputTokens, record.countedBy]).toEqual([1, "chunks"]);
    expect(record.warning).toBe("usage counts fewer tokens than chunks came: 0 for 1 chunks");
  });

  test("or one that is not what was asked for is said", async () => {
    const answered = async (
      outputTokens: number,
      request: Parameters<typeof streamed>[2],
    ): Promise<string | undefined> =>
      (await recordOf([[1, event("a", usage(5, outputTokens)) + DONE]], {}, request)).warning;
    expect(await answered(4, { maxTokens: 3 })).toBe("more tokens than asked: 4 of 3");
    expect(await answered(2, { ignoreEos: true })).toBe(
      "fewer tokens than asked with ignore_eos: 2 of 3",
    );
    expect(await answered(2, { ignoreEos: false })).toBeUndefined();
    expect(await answered(3, { numPromptTokens: 4 })).toBe(
      "the server counts the prompt otherwise: 5 tokens, sent were 4",
    );
    expect(await answered(3, { numPromptTokens: 5 })).toBeUndefined();
  });
});
