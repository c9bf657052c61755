/** `bench` as a process, from a data set to its report: real servers, real files, backend `null`. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { defaultModelPath } from "../support/default-model.ts";
import { type Finished, runCli, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const MODEL = defaultModelPath();
const folder = temporaryFolder();
const trace = join(folder, "recorded.jsonl");
let server: TestServer;

beforeAll(async () => {
  server = await startServer(["--backend", "null", "--record", trace]);
});
afterAll(() => server[Symbol.asyncDispose]());

interface Result {
  readonly completed: number;
  readonly failed: number;
  readonly total_input_tokens: number;
  readonly total_output_tokens: number;
  readonly counted_by: object;
  readonly dataset_name: string;
}

async function bench(...args: string[]): Promise<Finished> {
  return runCli([
    "bench",
    "serve",
    MODEL,
    "--base-url",
    server.url,
    "--log-level",
    "error",
    ...args,
  ]);
}

async function resultOf(...args: string[]): Promise<Result> {
  const { code, stdout, stderr } = await bench("--json", ...args);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Result;
}

const lines = (rows: readonly object[]): string =>
  rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** Requests, prompt tokens and output tokens that are known before anything is sent. */
interface Case {
  readonly flags: string;
  readonly file?: string;
  readonly requests: number;
  readonly input?: number;
  readonly output?: number;
}

const CASES: Readonly<Record<string, Case>> = {
  random: {
    flags: "--num-prompts 5 --random-input-len 40 --random-output-len 6",
    ...{ requests: 5, input: 200, output: 30 },
  },
  prefix_repetition: {
    flags:
      "--num-prompts 6 --prefix-repetition-num-prefixes 2 --prefix-repetition-prefix-len 48 --prefix-repetition-suffix-len 16 --prefix-repetition-output-len 4",
    ...{ requests: 6, input: 6 * 64, output: 24 },
  },
  "generated-shared-prefix": {
    flags:
      "--gsp-num-groups 2 --gsp-prompts-per-group 3 --gsp-system-prompt-len 40 --gsp-question-len 10 --gsp-output-len 5",
    ...{ requests: 6, input: 300, output: 30 },
  },
  "multi-turn": {
    flags:
      "--num-prompts 2 --multi-turn-turns 3 --multi-turn-common-len 16 --multi-turn-first-len 32 --multi-turn-message-len 8 --multi-turn-output-len 4 --multi-turn-think-time 0.01",
    // What follows an answer is known when its text has been encoded again.
    ...{ requests: 6, output: 24 },
  },
  agentic: {
    flags: "--num-prompts 2 --length-scale 0.01 --agentic-turns 3 --agentic-tool-time 1",
    requests: 6,
  },
  "long-document": {
    flags:
      "--long-document-num-documents 2 --long-document-document-len 100 --long-document-question-len 10 --long-document-output-len 3 --long-document-repeat-count 2",
    ...{ requests: 4, input: 440, output: 12 },
  },
  sharegpt: {
    flags: "--num-prompts 2 --sharegpt-output-len 7",
    file: JSON.stringify(
      Array.from({ length: 3 }, (_, i) => ({
        id: `c${i}`,
        conversations: [
          { from: "human", value: `Question ${i}: what is the capital of France?` },
          { from: "gpt", value: "The capital of France is Paris, as everybody knows." },
        ],
      })),
    ),
    ...{ requests: 2, output: 14 },
  },
  burstgpt: {
    flags: "--num-prompts 0 --slowdown-factor 0.001",
    file: "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,30,4,34,API log\n9,GPT-4,20,5,25,API log\n9,ChatGPT,20,5,25,API log\n",
    ...{ requests: 2, input: 50, output: 9 },
  },
  mooncake: {
    flags: "--num-prompts 0 --length-scale 0.1 --slowdown-factor 0.001",
    file: lines([
      { timestamp: 0, input_length: 1000, output_length: 50, hash_ids: [1, 2] },
      { timestamp: 500, input_length: 1000, output_length: 50, hash_ids: [1, 3] },
    ]),
    ...{ requests: 2, input: 200, output: 10 },
  },
  timed_trace: {
    flags: "--num-prompts 0 --slowdown-factor 0.001",
    file: lines([
      { timestamp: 0, input_length: 40, output_length: 5, hash_ids: [7, 8, 9] },
      { timestamp: 2, input_length: 30, output_length: 6, hash_ids: [7, 8] },
    ]),
    ...{ requests: 2, input: 70, output: 11 },
  },
  custom: {
    flags: "--num-prompts 0",
    file: lines([
      { prompt: "Once upon a time", output_tokens: 4 },
      { prompt: "In a hole", output_tokens: 3 },
    ]),
    ...{ requests: 2, output: 7 },
  },
};

describe("bench serve", () => {
  for (const [name, { flags, file, requests, input, output }] of Object.entries(CASES)) {
    test(`sends ${name} and gets every token that it asked for`, async () => {
      const path = join(folder, `${name}.data`);
      if (file !== undefined) writeFileSync(path, file);
      const place = file === undefined ? [] : ["--dataset-path", path];
      const result = await resultOf("--dataset-name", name, ...flags.split(" "), ...place);
      expect(result).toMatchObject({ failed: 0, dataset_name: name });
      expect(result.completed).toBe(requests);
      expect(result.counted_by).toEqual({ usage: result.completed });
      if (input !== undefined) expect(result.total_input_tokens).toBe(input);
      if (output !== undefined) expect(result.total_output_tokens).toBe(output);
    }, 60_000);
  }

  test("sends the same tokens as ids and as text; a chat has the template on top", async () => {
    const flags = ["--num-prompts", "3", "--random-input-len", "50", "--random-output-len", "2"];
    const inputs: number[] = [];
    for (const form of ["tokens", "text", "chat"])
      inputs.push((await resultOf(...flags, "--prompt-form", form)).total_input_tokens);
    const [tokens = 0, text, chat] = inputs;
    expect([tokens, text]).toEqual([150, 150]);
    expect(chat).toBeGreaterThan(tokens);
  }, 60_000);

  test("refuses a bad data file before it sends anything, naming the line", async () => {
    const path = join(folder, "bad.jsonl");
    writeFileSync(path, `${JSON.stringify({ prompt: "fine" })}\n{"prompt": 7}\n`);
    const { code, stderr } = await bench("--dataset-name", "custom", "--dataset-path", path);
    expect([code, stderr]).toEqual([2, expect.stringContaining("line 2")]);
  }, 60_000);

  test("compares sides in turns, and fails when a condition holds", async () => {
    const file = join(folder, "ab.json");
    const conditions = ["--fail-if", "completed<8,completed<9"];
    const { code, stdout, stderr } = await runCli([
      ...["bench", "serve", MODEL, "--log-level", "error"],
      ...["--ab", "one: --backend null --max-num-seqs 1", "--ab", "many: --backend null"],
      ...["--num-prompts", "8", "--random-input-len", "16", "--random-output-len", "4"],
      ...["--ab-rounds", "2", "--ab-warmups", "0"],
      ...[...conditions, "--report", file],
    ]);
    expect(stdout).toContain("a = one (2 runs), b = many (2 runs); runs in turns");
    expect([code, stderr.trim()]).toEqual([
      1,
      "[error] --fail-if completed<9: completed is 8 requests",
    ]);
    const { runs } = JSON.parse(await Bun.file(file).text()) as { runs: { label: string }[] };
    expect(runs.map(({ label }) => label)).toEqual(["one", "many", "many", "one"]);
    const compared = await runCli(["bench", "compare", file, ...conditions]);
    expect([compared.code, compared.stderr]).toEqual([code, stderr]);
    // The same figures, read back.
    const table = (text: string): string => /b \/ a with[^]*?Taken together/.exec(text)?.[0] ?? "";
    expect(table(compared.stdout)).toBe(table(stdout));
    expect(table(stdout)).toContain("ttft_p99");
  }, 120_000);

  test("finds the largest rate that keeps a limit, and says which ones it tried", async () => {
    const search = ["--slo-search", "ttft:60000", "--slo-probe-time", "1", "--slo-max-rate", "64"];
    const small = ["--random-input-len", "16", "--random-output-len", "2", "--request-rate", "32"];
    const { code, stdout } = await bench("--json", ...search, ...small);
    const { slo_search: found } = JSON.parse(stdout) as {
      slo_search: { best: number; probes: { rate: number; passed: boolean }[] };
    };
    expect([code, found.best]).toEqual([0, 64]);
    expect(found.probes.map(({ rate, passed }) => [rate, passed])).toEqual([
      [32, true],
      [64, true],
    ]);
  }, 60_000);

  test("replays what a server has recorded", async () => {
    const recorded = (await Bun.file(trace).text()).trimEnd().split("\n").length;
    const result = await resultOf(
      ...["--dataset-name", "recorded", "--dataset-path", trace, "--num-prompts", "0"],
      ...["--no-self-timed", "--max-concurrency", "4"],
    );
    expect([result.failed, result.completed]).toEqual([0, recorded]);
  }, 60_000);
});

describe("bench throughput", () => {
  test("sends a data set straight into the engine, with the counters that a server has", async () => {
    const flags = CASES["multi-turn"]?.flags.split(" ") ?? [];
    const { code, stdout } = await runCli([
      ...["bench", "throughput", MODEL, "--backend", "null", "--json", "--log-level", "error"],
      ...["--dataset-name", "multi-turn", ...flags],
    ]);
    expect(code).toBe(0);
    // 48; 48 + 4 + 8; 48 + 4 + 8 + 4 + 8: answers are tokens here, and no text in between.
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ completed: 6, total_input_tokens: 2 * (48 + 60 + 72), total_output_tokens: 24 },
      ...{ base_url: "this process", counters: { "vllm:prompt_tokens_total": 360 } },
    });
  }, 60_000);
});
