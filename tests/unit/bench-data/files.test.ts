import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { join } from "node:path";
import { loadWorkload } from "../../../cli/bench/datasets/registry.ts";
import { scaledBlocks } from "../../../cli/bench/datasets/scale.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";
import {
  commonPrefix,
  firstPrompts,
  type Flags,
  workload,
  workloadOptions,
} from "../../support/workloads.ts";
import type { Workload } from "../../../cli/bench/types.ts";

const bytes = new ByteTokenizer();
const withBos = new ByteTokenizer({ addBos: true });

function from(name: string, text: string, flags: Flags = {}, seed = 0): Workload {
  return workload(bytes, name, flags, { text, seed });
}

async function refusal(name: string, text: string, flags: Flags = {}): Promise<string> {
  const error = await thrownBy(() => from(name, text, flags));
  expect(error.code).toBe("bad_config");
  return error.message;
}

function promptTexts(made: Workload): string[] {
  return firstPrompts(bytes, made).map((ids) => bytes.decode(ids));
}

const jsonLines = (rows: readonly object[]): string =>
  rows.map((row) => `${JSON.stringify(row)}\n`).join("");

describe("custom", () => {
  const ten = jsonLines(Array.from({ length: 10 }, (_, i) => ({ prompt: `prompt ${i}` })));

  test("sends each line's prompt, in a shuffled order unless it is to be kept", () => {
    const kept = promptTexts(from("custom", ten, { "disable-shuffle": true }));
    expect(kept).toEqual(Array.from({ length: 10 }, (_, i) => `prompt ${i}`));
    const mixed = promptTexts(from("custom", ten));
    expect(mixed).not.toEqual(kept);
    expect(mixed.toSorted()).toEqual(kept);
    expect(promptTexts(from("custom", ten))).toEqual(mixed);
    expect(promptTexts(from("custom", ten, {}, 1))).not.toEqual(mixed);
  });

  test("takes as many as are asked for, all for 0, and repeats them only when told to", () => {
    const count = (flags: Flags): number => from("custom", ten, flags).conversations.length;
    expect([
      count({ "num-prompts": 3 }),
      count({ "num-prompts": 0 }),
      count({ "num-prompts": 25 }),
    ]).toEqual([3, 10, 10]);
    const repeated = from("custom", ten, { "num-prompts": 25, oversample: true });
    expect(new Set(repeated.conversations.map(({ id }) => id)).size).toBe(25);
    expect(new Set(promptTexts(repeated)).size).toBe(10);
  });

  test("asks for the line's tokens, else for those of the flag", () => {
    const text = jsonLines([{ prompt: "a" }, { prompt: "b", output_tokens: 7 }]);
    const made = from("custom", text, { "custom-output-len": 5, "disable-shuffle": true });
    expect(made.conversations.map(({ turns }) => turns[0]!.maxTokens)).toEqual([5, 7]);
  });

  test("is sent as it is, in each form, with what the server puts before it counted", () => {
    const text = jsonLines([{ prompt: " Sag \u201eja\u201c. \n" }]);
    const prompt = (form: string): unknown =>
      workload(
        withBos,
        "custom",
        { "prompt-form": form },
        { text },
      ).conversations[0]!.turns[0]!.prompt([]);
    const given = " Sag \u201eja\u201c. \n";
    expect(prompt("text")).toEqual({ kind: "text", text: given });
    expect(prompt("chat")).toEqual({ kind: "chat", messages: [{ role: "user", content: given }] });
    const length = new TextEncoder().encode(given).length + 1;
    expect(prompt("tokens")).toMatchObject({ kind: "tokens", tokenIds: { length } });
    const { turns } = workload(withBos, "custom", {}, { text }).conversations[0]!;
    expect(turns[0]!.numPromptTokens).toBe(length);
  });

  test("names the line and the field of what is wrong", async () => {
    const good = '{"prompt":"x"}\n';
    const cases = {
      [`${good}\n{"text":"x"}`]:
        "data.jsonl, line 3: prompt is missing; allowed is a string that is not empty",
      '{"prompt":["a"]}': 'data.jsonl, line 1: prompt is ["a"]; allowed is a string',
      [`${good}{"prompt":"x","output_tokens":0}`]:
        "data.jsonl, line 2: output_tokens is 0; allowed is an integer of 1",
      [`${good}{"prompt":"x`]: "data.jsonl, line 2 is not JSON",
      "": "data.jsonl has no record that can be used",
      "\n\n": "data.jsonl has no record that can be used",
    };
    for (const [text, message] of Object.entries(cases))
      expect(await refusal("custom", text)).toStartWith(message);
  });
});

describe("sharegpt", () => {
  const chat = (prompt: string, answer: string, ...more: string[]): object => ({
    id: "x",
    conversations: [prompt, answer, ...more].map((value, i) => ({
      from: i % 2 ? "gpt" : "human",
      value,
    })),
  });

  test("sends first questions and asks for as many tokens as first answers have", () => {
    const text = JSON.stringify([
      chat("What is it?", "An answer."),
      chat("And this?", "Another one", "Why?"),
    ]);
    const made = from("sharegpt", text, { "disable-shuffle": true });
    expect(promptTexts(made)).toEqual(["What is it?", "And this?"]);
    expect(made.conversations.map(({ turns }) => turns[0]!.maxTokens)).toEqual([10, 11]);
    const fixed = from("sharegpt", text, { "sharegpt-output-len": 64 });
    expect(fixed.conversations.map(({ turns }) => turns[0]!.maxTokens)).toEqual([64, 64]);
  });

  test("passes over what vLLM passes over, and counts it", () => {
    const long = "l".repeat(1025);
    const passedOver = [
      chat("abc", "long enough"),
      chat("long enough", "abc"),
      chat(long, "long enough"),
      chat("x".repeat(1024), "y".repeat(1025)),
      { conversations: [{ from: "human", value: "alone" }] },
      { id: "none" },
    ];
    const used = [chat("four", "four"), chat("x".repeat(1024), "y".repeat(1024))];
    const made = from("sharegpt", JSON.stringify([...passedOver, ...used]));
    expect(made.conversations).toHaveLength(2);
    expect(made.parameters).toMatchObject({ "records-passed-over": 6 });
    const short = from("sharegpt", JSON.stringify([chat("question", "no")]), {
      "sharegpt-output-len": 9,
    });
    expect(short.conversations).toHaveLength(1);
  });

  test("names the element of what is wrong, and says where nothing is left", async () => {
    const good = chat("What is it?", "An answer.");
    const cases: [string, string][] = [
      [
        JSON.stringify([good, { conversations: [{ value: 1 }, { value: "x" }] }]),
        "data.jsonl, element 2: conversations[0].value is 1; allowed is a string",
      ],
      [
        JSON.stringify([good, { conversations: "x" }]),
        'data.jsonl, element 2: conversations is "x"; allowed is an array',
      ],
      [
        JSON.stringify([good, 7]),
        "data.jsonl, element 2: the record is 7; allowed is a JSON object",
      ],
      ['[{"conversations":x}]', "data.jsonl, element 1 is not JSON"],
      [jsonLines([good, good]), "data.jsonl must be a JSON array"],
      ["[]", "data.jsonl has no record that can be used"],
      [
        JSON.stringify([chat("a", "b")]),
        "data.jsonl has no record that can be used; 1 were passed over",
      ],
    ];
    for (const [text, message] of cases)
      expect(await refusal("sharegpt", text, { "disable-shuffle": true })).toStartWith(message);
  });
});

describe("burstgpt", () => {
  const HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type";
  const csv = (...rows: string[]): string => [HEADER, ...rows].join("\r\n");
  const three = csv(
    "5,GPT-4,40,10,50,Conversation log",
    "6.5,ChatGPT,9,9,18,API log",
    "8,GPT-4,20,0,20,API log",
    "9,GPT-4,30,7,37,API log",
  );

  test("keeps times and lengths of the rows of the model that have an answer", () => {
    const made = from("burstgpt", three);
    expect(made.conversations.map(({ at }) => at)).toEqual([0, 4000]);
    expect(firstPrompts(bytes, made).map((ids) => ids.length)).toEqual([40, 30]);
    expect(made.conversations.map(({ turns }) => turns[0]!.maxTokens)).toEqual([10, 7]);
    expect(made.parameters).toMatchObject({ "records-passed-over": 2 });
    expect(from("burstgpt", three, { "burstgpt-model": "any" }).conversations).toHaveLength(3);
    expect(from("burstgpt", three, { "burstgpt-model": "ChatGPT" }).conversations).toHaveLength(1);
  });

  test("finds the columns by name", () => {
    const text =
      "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n1,s,2,GPT-4,8,3\n";
    const [one] = from("burstgpt", text).conversations;
    expect([one!.turns[0]!.numPromptTokens, one!.turns[0]!.maxTokens]).toEqual([8, 3]);
  });

  test("slows down, scales and forgets its times as it is told", () => {
    const slow = from("burstgpt", three, { "slowdown-factor": 0.5, "length-scale": 0.1 });
    expect(slow.conversations.map(({ at }) => at)).toEqual([0, 2000]);
    expect(
      slow.conversations.map(({ turns }) => [turns[0]!.numPromptTokens, turns[0]!.maxTokens]),
    ).toEqual([
      [4, 1],
      [3, 1],
    ]);
    const untimed = from("burstgpt", three, { "self-timed": false });
    expect(untimed.conversations.map(({ at }) => at)).toEqual([undefined, undefined]);
  });

  test("names the line and the column of what is wrong", async () => {
    const cases = {
      "a,b\n1,2":
        'data.jsonl, line 1: there is no column "Timestamp"; needed are Timestamp, Model,',
      "": 'data.jsonl, line 1: there is no column "Timestamp"',
      [csv("x,GPT-4,1,1")]: 'data.jsonl, line 2: Timestamp is "x"; allowed is seconds, at least 0',
      [csv("-1,GPT-4,1,1")]: 'data.jsonl, line 2: Timestamp is "-1"',
      [csv(",GPT-4,1,1")]: 'data.jsonl, line 2: Timestamp is ""',
      [csv("1,GPT-4,0,1")]:
        'data.jsonl, line 2: Request tokens is "0"; allowed is an integer of 1 to 16777216',
      [csv("1,GPT-4,16777217,1")]: "data.jsonl, line 2: Request tokens is",
      [csv("1,GPT-4,1")]: "data.jsonl, line 2: Response tokens is missing",
      [csv("1,GPT-4,1,1e3")]: 'data.jsonl, line 2: Response tokens is "1e3"',
      [HEADER]: "data.jsonl has no record that can be used",
    };
    for (const [text, message] of Object.entries(cases))
      expect(await refusal("burstgpt", text)).toStartWith(message);
  });
});

describe("mooncake and timed_trace", () => {
  const row = (timestamp: number, input: number, output: number, hashes?: number[]): object => ({
    timestamp,
    input_length: input,
    output_length: output,
    ...(hashes === undefined ? {} : { hash_ids: hashes }),
  });
  const published = jsonLines([
    row(27482, 6955, 52, [46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 2353, 2354]),
    row(30535, 6472, 26, [46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 2366]),
  ]);

  test("share as many tokens as they share blocks of 512", () => {
    const made = from("mooncake", published);
    const [a, b] = firstPrompts(bytes, made);
    expect([a!.length, b!.length, commonPrefix(a!, b!)]).toEqual([6955, 6472, 12 * 512]);
    expect(made.conversations.map(({ at }) => at)).toEqual([0, 3053]);
    expect(made.conversations.map(({ turns }) => turns[0]!.maxTokens)).toEqual([52, 26]);
    expect(firstPrompts(bytes, from("mooncake", published))).toEqual([a!, b!]);
    expect(firstPrompts(bytes, from("mooncake", published, {}, 1))).not.toEqual([a!, b!]);
  });

  test("share them with a token before each text, too", () => {
    const made = workload(withBos, "mooncake", {}, { text: published });
    const [a, b] = firstPrompts(withBos, made);
    expect([a!.length, b!.length, commonPrefix(a!, b!)]).toEqual([6955, 6472, 12 * 512]);
  });

  test("keep the sharing when they are scaled: blocks become smaller, not fewer", () => {
    const made = from("mooncake", published, { "length-scale": 0.05 });
    const [a, b] = firstPrompts(bytes, made);
    expect([a!.length, b!.length, commonPrefix(a!, b!)]).toEqual([348, 324, 12 * 26]);
    expect(made.conversations.map(({ turns }) => turns[0]!.maxTokens)).toEqual([3, 1]);
    const larger = firstPrompts(bytes, from("mooncake", published, { "length-scale": 2 }));
    expect([larger[0]!.length, commonPrefix(larger[0]!, larger[1]!)]).toEqual([13_910, 12 * 1024]);
  });

  test("have as many blocks at any scale, and as many tokens for each as there can be", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 600 }),
        fc.integer({ min: 1, max: 5000 }),
        fc.double({ min: 0.0001, max: 100, noNaN: true }),
        (blockSize, named, scale) => {
          const scaled = scaledBlocks({ blockSize, named, unnamed: 0 }, scale);
          const numBlocks = Math.ceil(named / blockSize);
          expect(Math.ceil(scaled.named / scaled.blockSize)).toBe(numBlocks);
          expect(scaled.blockSize).toBe(Math.max(1, Math.round(blockSize * scale)));
          if (Math.ceil(Math.round(named * scale) / scaled.blockSize) === numBlocks)
            expect(scaled.named).toBe(Math.round(named * scale));
        },
      ),
      propertyRuns(500),
    );
  });

  test("of vLLM's form have seconds, and blocks of the size that is given", () => {
    const text = jsonLines([row(1, 32, 4, [1, 2]), row(3.5, 40, 4, [1, 9, 10])]);
    const made = from("timed_trace", text);
    const [a, b] = firstPrompts(bytes, made);
    expect([a!.length, b!.length, commonPrefix(a!, b!)]).toEqual([32, 40, 16]);
    expect(made.conversations.map(({ at }) => at)).toEqual([0, 2500]);
    const flags = { "timed-trace-sec-multiplier": 0.001, "timed-trace-chunk-hash-size": 20 };
    const coarse = from(
      "timed_trace",
      jsonLines([row(1000, 32, 4, [1, 2]), row(3500, 40, 4, [1, 9])]),
      flags,
    );
    expect(coarse.conversations.map(({ at }) => at)).toEqual([0, 2500]);
    const [c, d] = firstPrompts(bytes, coarse);
    expect(commonPrefix(c!, d!)).toBe(20);
  });

  test("fill what no hash names with tokens of the request's own", () => {
    const text = jsonLines([
      row(0, 50, 1, [1, 2]),
      row(0, 50, 1, [1, 2]),
      row(0, 10, 1),
      row(0, 10, 1, []),
    ]);
    const [a, b, c, d] = firstPrompts(bytes, from("timed_trace", text));
    expect([a, b, c, d].map((ids) => ids!.length)).toEqual([50, 50, 10, 10]);
    expect([commonPrefix(a!, b!), commonPrefix(c!, d!)]).toEqual([32, 0]);
  });

  test("start at the earliest request, whatever the order of the lines", () => {
    const made = from("mooncake", jsonLines([row(700, 5, 1, [1]), row(200, 5, 1, [2])]));
    expect(made.conversations.map(({ at }) => at)).toEqual([500, 0]);
  });

  test("name the line and the field of what is wrong", async () => {
    const good = row(0, 600, 1, [1, 2]);
    const cases: [object, string][] = [
      [{ ...good, timestamp: "0" }, 'timestamp is "0"; allowed is a number of at least 0'],
      [{ ...good, timestamp: -1 }, "timestamp is -1"],
      [{ ...good, input_length: 0 }, "input_length is 0; allowed is an integer of 1 to 16777216"],
      [{ ...good, input_length: 16_777_217 }, "input_length is 16777217"],
      [
        { ...good, output_length: -1 },
        "output_length is -1; allowed is an integer of 0 to 16777216",
      ],
      [{ ...good, output_length: undefined }, "output_length is missing"],
      [
        { ...good, hash_ids: [1, 2, 3] },
        'hash_ids is "3 hashes"; allowed is up to 2: input_length is 600, in blocks of 512 tokens',
      ],
      [
        { ...good, hash_ids: [1, "2"] },
        'hash_ids[1] is "2"; allowed is an integer of 0 to 9007199254740991',
      ],
      [{ ...good, hash_ids: 7 }, "hash_ids is 7; allowed is an array of integers"],
    ];
    for (const [bad, message] of cases)
      expect(await refusal("mooncake", jsonLines([good, bad]))).toStartWith(
        `data.jsonl, line 2: ${message}`,
      );
    expect(
      from("mooncake", jsonLines([{ ...good, output_length: 0 }])).conversations[0]!.turns[0]!
        .maxTokens,
    ).toBe(1);
  });
});

describe("a workload from a file of the disk", () => {
  const folder = temporaryFolder();

  test("is read by its path, and its errors name it", async () => {
    const path = join(folder, "mine.jsonl");
    await Bun.write(path, '{"prompt":"one"}\n{"prompt":2}\n');
    const load = (count: number): Workload =>
      loadWorkload(
        workloadOptions({
          "dataset-name": "custom",
          "dataset-path": path,
          "num-prompts": count,
          "disable-shuffle": true,
        }),
        bytes,
      );
    expect(promptTexts(load(1))).toEqual(["one"]);
    expect((await thrownBy(() => load(2))).message).toStartWith(`${path}, line 2: prompt is 2`);
    expect(loadWorkload(workloadOptions({ "num-prompts": 3 }), bytes).conversations).toHaveLength(
      3,
    );
  });
});
