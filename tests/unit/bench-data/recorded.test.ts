import { describe, expect, test } from "bun:test";
import type { TraceLine } from "../../../engine/recording/trace-line.ts";
import type { Workload } from "../../../cli/bench/types.ts";
import { ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { thrownBy } from "../../support/thrown.ts";
import {
  commonPrefix,
  engineIds,
  firstPrompts,
  type Flags,
  workload,
} from "../../support/workloads.ts";

const bytes = new ByteTokenizer();

/** A request of 20 tokens and 30 out, in blocks of 16: one block of the prompt is full, two are with the output. */
const FIRST: TraceLine = {
  timestamp: 1_000_000,
  input_length: 20,
  output_length: 30,
  hash_ids: [1, 100],
  output_hash_ids: [2, 3],
  block_size: 16,
  cached_tokens: 0,
  finish: "length",
  duration_ms: 500,
  max_tokens: 30,
  sampling: {},
  choice: 0,
  priority: 0,
};

/** Continues it: its prompt holds the three blocks and one more. */
const SECOND: TraceLine = {
  ...FIRST,
  timestamp: 1_002_000,
  input_length: 70,
  output_length: 10,
  hash_ids: [1, 2, 3, 4, 101],
  output_hash_ids: [5],
};

function recorded(lines: readonly object[], flags: Flags = {}): Workload {
  const text = lines.map((line) => JSON.stringify(line)).join("\n");
  return workload(bytes, "recorded", flags, { text });
}

function shape(made: Workload): string[] {
  return made.conversations.map(({ id, turns }) => `${id}: ${turns.length}`);
}

describe("a recorded request that continues another", () => {
  test("is its next turn, after the time that was between them", () => {
    const [chat, ...none] = recorded([FIRST, SECOND]).conversations;
    expect(none).toEqual([]);
    expect(chat).toMatchObject({
      id: "line-1",
      at: 0,
      turns: [
        { thinkTimeMs: 0, maxTokens: 30, numPromptTokens: 20, ignoreEos: true },
        { thinkTimeMs: 1500, maxTokens: 10, numPromptTokens: 70 },
      ],
    });
    const slow = recorded([FIRST, SECOND], { "slowdown-factor": 2 }).conversations[0]!;
    expect(slow.turns[1]!.thinkTimeMs).toBe(3000);
    const untimed = recorded([FIRST, SECOND], { "self-timed": false }).conversations[0]!;
    expect([untimed.at, untimed.turns[1]!.thinkTimeMs]).toEqual([undefined, 0]);
  });

  test("repeats what was sent and answered in whole blocks, then has its own", () => {
    const [first, second] = recorded([FIRST, SECOND]).conversations[0]!.turns;
    const sent = engineIds(bytes, first!.prompt([]));
    const answer = Array.from({ length: 30 }, (_, i) => 200 + i);
    const ids = engineIds(bytes, second!.prompt([{ text: "", tokenIds: answer }]));
    expect(ids).toHaveLength(70);
    expect(commonPrefix([...sent, ...answer], ids)).toBe(48);
    const other = engineIds(bytes, second!.prompt([{ text: "", tokenIds: answer.toReversed() }]));
    expect(other.slice(48)).toEqual(ids.slice(48));
  });

  test("also continues it where the answers in between filled no block of their own", () => {
    const short = { ...SECOND, output_length: 2, output_hash_ids: [] };
    const third = {
      ...SECOND,
      timestamp: 1_004_000,
      input_length: 75,
      hash_ids: [1, 2, 3, 4, 102],
    };
    expect(shape(recorded([FIRST, short, third]))).toEqual(["line-1: 3"]);
  });

  test("is found in any order of the lines, which are written when requests end", () => {
    expect(shape(recorded([SECOND, FIRST]))).toEqual(["line-2: 2"]);
  });

  test("came after the end of the other; the clock's millisecond does not count", () => {
    const follow = (timestamp: number): string[] =>
      shape(recorded([FIRST, { ...SECOND, timestamp }]));
    expect(follow(1_000_499)).toEqual(["line-1: 2"]);
    expect(follow(1_000_498)).toEqual(["line-1: 1", "line-2: 1"]);
  });

  test("continues the latest of equal ones, each once", () => {
    const retry = { ...FIRST, timestamp: 1_001_000 };
    const lines = [FIRST, retry, SECOND, { ...SECOND, timestamp: 1_003_000 }];
    expect(shape(recorded(lines))).toEqual(["line-1: 2", "line-2: 2"]);
  });

  test("begins a conversation of its own where another has continued already, which is counted", () => {
    const branch = { ...SECOND, timestamp: 1_003_000, hash_ids: [1, 2, 3, 6, 102] };
    const made = recorded([FIRST, SECOND, branch]);
    expect(shape(made)).toEqual(["line-1: 2", "line-3: 1"]);
    expect(made.parameters).toMatchObject({ "recorded-follow-ups": 1, "recorded-branches": 1 });
  });

  test("is not one that only begins alike", () => {
    const alike = { ...SECOND, hash_ids: [1, 7, 8, 9, 10] };
    const made = recorded([FIRST, alike]);
    expect(shape(made)).toEqual(["line-1: 1", "line-2: 1"]);
    const [a, b] = firstPrompts(bytes, made);
    expect(commonPrefix(a!, b!)).toBe(16);
    expect(made.parameters).not.toHaveProperty("recorded-branches");
  });
});

describe("a recorded trace", () => {
  test("is sent when it came, from its earliest request on", () => {
    const at = (timestamp: number, hash: number): TraceLine => ({
      ...FIRST,
      timestamp,
      hash_ids: [hash, 50 + hash],
    });
    const lines = [at(5000, 11), at(2000, 12), at(9000, 13)];
    const made = recorded(lines);
    expect(made.conversations.map(({ id, at }) => [id, at])).toEqual([
      ["line-2", 0],
      ["line-1", 3000],
      ["line-3", 7000],
    ]);
    expect(recorded(lines, { "num-prompts": 1 }).conversations.map(({ id }) => id)).toEqual([
      "line-1",
    ]);
  });

  test("asks for one token where none came", () => {
    const line = { ...FIRST, output_length: 0, output_hash_ids: [], finish: "abort" };
    expect(recorded([line]).conversations[0]!.turns[0]!.maxTokens).toBe(1);
  });

  test("has its lines checked", async () => {
    const cases: [object, string][] = [
      [
        { hash_ids: [1] },
        'hash_ids is "1 hashes"; allowed is 2: input_length is 20, in blocks of 16 tokens',
      ],
      [{ hash_ids: [1, 2, 3] }, 'hash_ids is "3 hashes"'],
      [{ hash_ids: undefined }, "hash_ids is missing; allowed is an array of integers"],
      [{ output_hash_ids: undefined }, "output_hash_ids is missing"],
      [{ block_size: 0 }, "block_size is 0; allowed is an integer of 1"],
      [{ duration_ms: null }, "duration_ms is null; allowed is a number of at least 0"],
      [{ timestamp: "now" }, 'timestamp is "now"'],
      [
        { prompt_token_ids: [1, 2] },
        'prompt_token_ids is "2 ids"; allowed is input_length of them, 20',
      ],
      [
        { prompt_token_ids: Array.from({ length: 20 }, () => 300) },
        "prompt_token_ids[0] is 300; allowed is an integer of 0 to 299",
      ],
    ];
    for (const [bad, message] of cases) {
      const error = await thrownBy(() => recorded([FIRST, { ...FIRST, ...bad }]));
      expect([error.code, error.message]).toEqual([
        "bad_config",
        expect.stringContaining(`data.jsonl, line 2: ${message}`),
      ]);
    }
  });

  test("that was cut off says so", async () => {
    const text = `${JSON.stringify(FIRST)}\n${JSON.stringify(FIRST).slice(0, 50)}`;
    const error = await thrownBy(() => workload(bytes, "recorded", {}, { text }));
    expect(error.message).toBe("data.jsonl, line 2 is not JSON");
    expect(error.hint).toContain("cut off");
  });

  test("is read by Mooncake's readers", () => {
    const text = `${JSON.stringify(FIRST)}\n${JSON.stringify({ ...FIRST, hash_ids: [1, 200] })}\n`;
    const flags = { "timed-trace-sec-multiplier": 0.001 };
    const prompts = firstPrompts(bytes, workload(bytes, "timed_trace", flags, { text }));
    expect([prompts[0]!.length, commonPrefix(prompts[0]!, prompts[1]!)]).toEqual([20, 16]);
  });
});
