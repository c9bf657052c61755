/** `serve --record` over real sockets: what the lines say, and that replaying them is the same traffic again. */

import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { join } from "node:path";
import { joinFollowUps } from "../../cli/bench/datasets/follow-ups.ts";
import { loadWorkload } from "../../cli/bench/datasets/registry.ts";
import type { Prompt, Workload } from "../../cli/bench/types.ts";
import { ByteTokenizer } from "../support/byte-tokenizer.ts";
import type { TraceLine } from "../../engine/recording/trace-line.ts";
import { propertyRuns } from "../support/property-runs.ts";
import { metric, post } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { readTrace, recordingServer, send, sendAll, traceShape } from "../support/trace-world.ts";
import { engineIds, type Flags, workload, workloadOptions } from "../support/workloads.ts";

const folder = temporaryFolder();
const bytes = new ByteTokenizer();
let numFiles = 0;
const newPath = (): string => join(folder, `trace-${numFiles++}.jsonl`);

function tokens(text: string): Prompt {
  return { kind: "tokens", tokenIds: [...bytes.encode(text, { parseSpecial: false })] };
}

function recorded(path: string, flags: Flags = {}): Workload {
  return loadWorkload(
    workloadOptions({
      "dataset-name": "recorded",
      "dataset-path": path,
      "num-prompts": 0,
      ...flags,
    }),
    bytes,
  );
}

const BLOCK = "sixteen letters!";

describe("a line", () => {
  test("says when a request came, how long it was, which blocks it had, and no word of it", async () => {
    const path = newPath();
    const before = Date.now();
    {
      await using server = await recordingServer(path);
      await send(server, tokens(`${BLOCK}${BLOCK}and a bit`), {
        max_tokens: 10,
        temperature: 0.5,
        top_k: 40,
        stop: ["secret stop"],
        user: "secret user",
      });
    }
    const [line, ...none] = await readTrace(path);
    expect(none).toEqual([]);
    expect(line).toMatchObject({
      input_length: 41,
      output_length: 10,
      block_size: 16,
      cached_tokens: 16,
      finish: "length",
      max_tokens: 10,
      sampling: { temperature: 0.5, top_k: 40 },
      choice: 0,
      priority: 0,
    });
    expect([line!.hash_ids.length, line!.output_hash_ids.length]).toEqual([3, 1]);
    expect(line!.timestamp).toBeWithin(before, Date.now() + 1);
    expect(line!.duration_ms).toBeGreaterThanOrEqual(line!.ttft_ms!);
    expect(await Bun.file(path).text()).not.toMatch(/secret|sixteen|prompt/);
  });

  test("has the same hashes for the same blocks in a recording, others in another, and never a guessable one", async () => {
    const hashes = async (): Promise<(readonly number[])[]> => {
      const path = newPath();
      {
        await using server = await recordingServer(path);
        for (const text of [BLOCK + BLOCK, `${BLOCK}another`, `other${BLOCK}`])
          await send(server, tokens(text), { max_tokens: 1 });
      }
      return (await readTrace(path)).map((line) => line.hash_ids);
    };
    const [a, b, c] = await hashes();
    expect(b![0]).toBe(a![0]!);
    expect(b![1]).not.toBe(a![1]!);
    expect(c).not.toContain(a![0]!);
    for (const one of [...a!, ...b!, ...c!]) expect(Number.isSafeInteger(one)).toBe(true);
    expect(new Set((await hashes()).flat()).isDisjointFrom(new Set([...a!, ...b!, ...c!]))).toBe(
      true,
    );
  });

  test("shares no hash between requests of different salts", async () => {
    const path = newPath();
    {
      await using server = await recordingServer(path);
      for (const text of [`${BLOCK}tail`, "short"])
        for (const salt of ["a", "b", "a"])
          await send(server, tokens(text), { max_tokens: 1, cache_salt: salt });
    }
    const hashes = (await readTrace(path)).map((line) => line.hash_ids);
    for (const [a, b, again] of [hashes.slice(0, 3), hashes.slice(3)]) {
      expect(again).toEqual(a!);
      expect(new Set(a).isDisjointFrom(new Set(b))).toBe(true);
    }
  });

  test("has the words only where they were asked for", async () => {
    const path = newPath();
    {
      await using server = await recordingServer(path, { content: true });
      await send(
        server,
        { kind: "chat", messages: [{ role: "user", content: "Hello?" }] },
        { max_tokens: 3 },
      );
    }
    const [line] = await readTrace(path);
    expect(line!.prompt).toBe("[user]Hello?[assistant]");
    expect(bytes.decode(line!.prompt_token_ids!)).toBe(line!.prompt!);
    expect(line!.output).toMatch(/^[a-z]{3}$/);
    expect(bytes.decode(line!.output_token_ids!)).toBe(line!.output!);
  });

  test("is written for each choice and each prompt of a body", async () => {
    const path = newPath();
    {
      await using server = await recordingServer(path);
      await post(server, "/v1/completions", { prompt: ["one", "two!"], n: 2, max_tokens: 2 });
    }
    const lines = await readTrace(path);
    const found = lines.map((line) => `${line.input_length} tokens, choice ${line.choice}`);
    expect(found.toSorted()).toEqual([
      "3 tokens, choice 0",
      "3 tokens, choice 1",
      "4 tokens, choice 0",
      "4 tokens, choice 1",
    ]);
    expect(new Set(lines.map((line) => line.hash_ids[0])).size).toBe(2);
  });

  test("is written for a request that its client gave up, with what came of it", async () => {
    const path = newPath();
    {
      await using server = await recordingServer(path);
      server.engine.script = undefined;
      const gone = new AbortController();
      const answer = post(
        server,
        "/v1/completions",
        { prompt: "hi", max_tokens: 50, stream: true },
        gone.signal,
      );
      const [sequence] = await server.engine.arrived(1);
      sequence!.sendText("abc");
      await (await answer).body!.getReader().read();
      gone.abort();
      await server.engine.abortsArrived(1);
    }
    const [line] = await readTrace(path);
    expect(line).toMatchObject({
      input_length: 2,
      output_length: 3,
      finish: "abort",
      max_tokens: 50,
    });
  });

  test("is written for none that is refused, and a failing one says so", async () => {
    const path = newPath();
    {
      await using server = await recordingServer(path);
      expect((await post(server, "/v1/completions", { prompt: "", max_tokens: 2 })).status).toBe(
        400,
      );
      server.engine.script = () => [
        {
          tokenIds: [],
          logprobs: [],
          finish: {
            reason: "error",
            error: { code: "internal", message: "broken" },
            usage: { promptTokens: 2, completionTokens: 0, cachedTokens: 0 },
            timing: { queued: 0, prefill: 0, decode: 0 },
          },
        },
      ];
      expect((await post(server, "/v1/completions", { prompt: "hi" })).status).toBe(500);
    }
    const lines = await readTrace(path);
    expect(lines.map((line) => line.finish)).toEqual(["error"]);
    expect(lines[0]!.ttft_ms).toBeUndefined();
  });
});

describe("a disk without room", () => {
  test("fails no request; the loss is told once and counted", async () => {
    await using server = await recordingServer("/dev/full");
    for (let i = 0; i < 3; i++) {
      const { text } = await send(server, tokens(`prompt ${i}`), { max_tokens: 4 });
      expect(text).toMatch(/^[a-z]{4}$/);
    }
    while (server.recording.counts.lost < 3) await new Promise((resolve) => setImmediate(resolve));
    expect(server.troubles.map(({ message }) => message)).toEqual([
      expect.stringContaining("ENOSPC"),
    ]);
    expect(await metric(server, "kvengine:unrecorded_requests_total")).toBe(3);
    expect(await metric(server, "kvengine:recorded_requests_total")).toBe(0);
  });
});

describe("a replay", () => {
  /** What a recorded workload becomes when it is sent to another server that records. */
  async function replayOf(path: string, flags: Flags = {}): Promise<string> {
    const again = newPath();
    await using server = await recordingServer(again);
    await sendAll(server, recorded(path, flags));
    await server[Symbol.asyncDispose]();
    return again;
  }

  async function record(
    traffic: (server: { readonly url: string }) => Promise<void>,
  ): Promise<string> {
    const path = newPath();
    await using server = await recordingServer(path);
    await traffic(server);
    return path;
  }

  test("of shared prefixes has the same lengths and shares the same blocks", async () => {
    const path = await record((server) =>
      sendAll(
        server,
        workload(bytes, "generated-shared-prefix", {
          "gsp-num-groups": 4,
          "gsp-prompts-per-group": 5,
          "gsp-system-prompt-len": 75,
          "gsp-question-len": 20,
          "gsp-output-len": 9,
        }),
      ),
    );
    const shape = traceShape(await readTrace(path));
    expect(shape).toHaveLength(20);
    expect(traceShape(await readTrace(await replayOf(path)))).toEqual(shape);
  });

  test("of chats goes turn by turn, on the answers that come this time", async () => {
    const path = await record((server) =>
      sendAll(
        server,
        workload(bytes, "multi-turn", {
          "num-prompts": 3,
          "multi-turn-turns": 4,
          "multi-turn-common-len": 40,
          "multi-turn-first-len": 23,
          "multi-turn-message-len": 21,
          "multi-turn-output-len": 30,
          "multi-turn-range-ratio": 0.3,
        }),
      ),
    );
    const made = recorded(path);
    expect(made.conversations.map(({ turns }) => turns.length)).toEqual([4, 4, 4]);
    expect(made.parameters).toMatchObject({ "recorded-follow-ups": 9 });
    const shape = traceShape(await readTrace(path));
    expect(shape.some((one) => "outputBlocks" in one)).toBe(true);
    const again = await replayOf(path);
    expect(traceShape(await readTrace(again))).toEqual(shape);
    // A recording of a replay is as good as the first.
    expect(traceShape(await readTrace(await replayOf(again)))).toEqual(shape);
  });

  test("of agents of a growing context, and of retries and prompts that only begin alike", async () => {
    const path = await record(async (server) => {
      await sendAll(
        server,
        workload(bytes, "agentic", { "num-prompts": 2, "agentic-turns": 5, "length-scale": 0.02 }),
      );
      for (const tail of ["x", "x", "y", ""])
        await send(server, tokens(`${BLOCK}${BLOCK}same ${tail}`), { max_tokens: 3 });
    });
    const shape = traceShape(await readTrace(path));
    expect(traceShape(await readTrace(await replayOf(path)))).toEqual(shape);
  });

  test("of any chats shares the same full blocks", async () => {
    const chat = fc.record({
      prefix: fc.constantFrom("", BLOCK, `${BLOCK.repeat(3)}and more`),
      turns: fc.array(
        fc.record({
          message: fc.integer({ min: 1, max: 50 }),
          answer: fc.integer({ min: 1, max: 50 }),
        }),
        { minLength: 1, maxLength: 5 },
      ),
      retried: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(chat, { minLength: 1, maxLength: 4 }), async (chats) => {
        const path = await record(async (server) => {
          for (const [i, { prefix, turns, retried }] of chats.entries()) {
            let said = prefix;
            for (const [turn, { message, answer }] of turns.entries()) {
              said += `${i},${turn}:`.padEnd(message, "m");
              const fields = { max_tokens: answer, ignore_eos: true };
              if (retried) await send(server, tokens(said), fields);
              said += (await send(server, tokens(said), fields)).text;
            }
          }
        });
        // A replay that waits for each answer sends one conversation after another.
        const lines = byConversation(await readTrace(path));
        const again = await readTrace(await replayOf(path));
        expect(traceShape(fullBlocksOf(again))).toEqual(traceShape(fullBlocksOf(lines)));
      }),
      propertyRuns(20),
    );
  });

  function byConversation(lines: readonly TraceLine[]): TraceLine[] {
    const rows = lines.map((line, i) => ({
      number: i,
      timeMs: line.timestamp,
      endMs: line.timestamp + line.duration_ms,
      inputLen: line.input_length,
      outputLen: line.output_length,
      blockSize: line.block_size,
      hashes: line.hash_ids,
      outputHashes: line.output_hash_ids,
    }));
    return joinFollowUps(rows).conversations.flatMap((turns) =>
      turns.map(({ number }) => lines[number]!),
    );
  }

  /** The last block of a prompt is in no cache where it is not full, and short ones may be alike by chance. */
  function fullBlocksOf(lines: readonly TraceLine[]): TraceLine[] {
    return lines.map((line) => ({
      ...line,
      hash_ids: line.hash_ids.slice(0, Math.floor(line.input_length / line.block_size)),
    }));
  }

  test("of words sends them again", async () => {
    const path = newPath();
    {
      await using server = await recordingServer(path, { content: true });
      const first = await send(server, tokens("Tell me a story of some length."), {
        max_tokens: 40,
      });
      await send(server, tokens(`Tell me a story of some length.${first.text} And then?`), {
        max_tokens: 5,
      });
    }
    const [chat, ...none] = recorded(path).conversations;
    expect(none).toEqual([]);
    const [one, two] = chat!.turns;
    expect(one!.prompt([])).toEqual(tokens("Tell me a story of some length."));
    const answer = "a".repeat(40);
    // 31 tokens of the prompt and 33 of the answer are whole blocks; the rest is what was recorded.
    const [, line] = await readTrace(path);
    const rest = line!.prompt!.slice(64);
    expect(two!.prompt([{ text: answer }])).toEqual(
      tokens(`Tell me a story of some length.${"a".repeat(33)}${rest}`),
    );
  });

  test("costs what was recorded whatever the answers are", async () => {
    const path = await record((server) =>
      sendAll(
        server,
        workload(bytes, "multi-turn", {
          "num-prompts": 1,
          "multi-turn-turns": 3,
          "multi-turn-output-len": 50,
        }),
      ),
    );
    const { turns } = recorded(path).conversations[0]!;
    for (const text of ["", "short", "l".repeat(500)]) {
      for (const [i, turn] of turns.entries()) {
        const prompt = turn.prompt(Array.from({ length: i }, () => ({ text })));
        expect(prompt).toMatchObject({ tokenIds: { length: turn.numPromptTokens } });
      }
    }
    const asText = recorded(path, { "prompt-form": "text" }).conversations[0]!.turns[0]!;
    expect(engineIds(bytes, asText.prompt([]))).toHaveLength(asText.numPromptTokens!);
    const asChat = recorded(path, { "prompt-form": "chat" }).conversations[0]!.turns[0]!;
    expect(asChat.prompt([])).toMatchObject({ kind: "chat", messages: [{ role: "user" }] });
  });
});
