import { describe, expect, test } from "bun:test";
import { runLoad } from "../../../cli/bench/load/run-load.ts";
import { type OfflineEngine, offlineSend } from "../../../cli/bench/throughput/offline.ts";
import { DEFAULT_SAMPLING } from "../../../engine/request.ts";
import { planWith, shapedWorkload, singleTurns } from "../../support/bench-workload.ts";
import { FakeEngineClient, NO_TIMING, say } from "../../support/fake-engine-client.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function engineOf(client: FakeEngineClient): OfflineEngine {
  return {
    client,
    endIds: [0],
    encode: (prompt) => Int32Array.from(prompt.kind === "tokens" ? prompt.tokenIds : [1]),
    decode: (tokenIds) => String.fromCharCode(...tokenIds),
  };
}

describe("a workload straight into the engine", () => {
  test("has the tokens of each step, when they came", async () => {
    const client = new FakeEngineClient();
    client.script = undefined;
    const clock = new VirtualClock();
    const send = offlineSend(engineOf(client), DEFAULT_SAMPLING);
    const run = runLoad(singleTurns(1), planWith(), { clock, send });
    const [sequence] = await client.arrived(1);
    expect(sequence?.request.sampling).toMatchObject({ maxTokens: 4, stopTokenIds: [] });
    await clock.advance(10);
    sequence?.send({ tokenIds: [72], logprobs: [0], cachedTokens: 3 });
    await clock.advance(5);
    const usage = { promptTokens: 8, completionTokens: 3, cachedTokens: 3 };
    const finish = { reason: "length", usage, timing: NO_TIMING } as const;
    sequence?.send({ tokenIds: [105, 33], logprobs: [0, 0], finish });
    const { records } = await run;
    expect(records).toEqual([
      {
        conversation: "c0",
        turn: 0,
        sentAt: 0,
        chunks: [
          { at: 10, numTokens: 1 },
          { at: 15, numTokens: 2 },
        ],
        endedAt: 15,
        promptTokens: 8,
        outputTokens: 3,
        countedBy: "usage",
        cachedTokens: 3,
        status: 200,
        outcome: "ok",
        text: "Hi!",
      },
    ]);
  });

  test("hands the answers' tokens to the turns after them", async () => {
    const client = new FakeEngineClient();
    client.script = say("abcdef");
    const workload = shapedWorkload({ turns: [2] });
    const [conversation] = workload.conversations;
    const answers: unknown[] = [];
    const spied = conversation!.turns.map((turn) => ({
      thinkTimeMs: turn.thinkTimeMs,
      maxTokens: turn.maxTokens,
      ignoreEos: turn.ignoreEos,
      prompt: (before: Parameters<typeof turn.prompt>[0]) => {
        answers.push(...before);
        return turn.prompt(before);
      },
    }));
    const send = offlineSend(engineOf(client), DEFAULT_SAMPLING);
    const clock = new VirtualClock();
    await runLoad({ conversations: [{ id: "c0", turns: spied }] }, planWith(), { clock, send });
    expect(answers).toEqual([{ text: "abcd", tokenIds: [97, 98, 99, 100] }]);
  });

  test("ends at EOS where it is not to be ignored", async () => {
    const client = new FakeEngineClient();
    const workload = shapedWorkload({ turns: [1] });
    const [{ turns } = { turns: [] }] = workload.conversations;
    const [turn] = turns;
    const heeding = { ...turn!, ignoreEos: false };
    const send = offlineSend(engineOf(client), DEFAULT_SAMPLING);
    const clock = new VirtualClock();
    await runLoad({ conversations: [{ id: "c0", turns: [heeding] }] }, planWith(), { clock, send });
    expect(client.sequences[0]?.request.sampling.stopTokenIds).toEqual([0]);
  });

  test("keeps what came before an error of the engine, and what it refuses", async () => {
    const client = new FakeEngineClient();
    const usage = { promptTokens: 8, completionTokens: 1, cachedTokens: 0 };
    const error = { code: "internal", message: "the device is gone" };
    const finish = { reason: "error", error, usage, timing: NO_TIMING } as const;
    client.script = (request) => {
      if (request.id === "bench-2") throw new Error("refused");
      return [
        { tokenIds: [65], logprobs: [0] },
        { tokenIds: [], logprobs: [], finish },
      ];
    };
    const send = offlineSend(engineOf(client), DEFAULT_SAMPLING);
    const clock = new VirtualClock();
    const { records } = await runLoad(singleTurns(2), planWith({ maxConcurrency: 1 }), {
      clock,
      send,
    });
    expect(
      records.map(({ outcome, error, status, text }) => [outcome, error, status, text]),
    ).toEqual([
      ["cut", "the device is gone", 500, "A"],
      ["error", "refused", 500, ""],
    ]);
  });

  test("aborts in the engine what is interrupted", async () => {
    const client = new FakeEngineClient();
    client.script = undefined;
    const clock = new VirtualClock();
    const interrupt = new AbortController();
    const send = offlineSend(engineOf(client), DEFAULT_SAMPLING);
    const run = runLoad(singleTurns(1), planWith(), { clock, send, signal: interrupt.signal });
    const [sequence] = await client.arrived(1);
    interrupt.abort();
    await client.abortsArrived(1);
    const usage = { promptTokens: 8, completionTokens: 0, cachedTokens: 0 };
    const finish = { reason: "abort", usage, timing: NO_TIMING } as const;
    sequence?.send({ tokenIds: [], logprobs: [], finish });
    const { records, stopped } = await run;
    expect([stopped, records[0]?.outcome, records[0]?.error]).toEqual([
      "interrupted",
      "error",
      "stopped: interrupted",
    ]);
  });
});
