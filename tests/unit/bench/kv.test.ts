import { describe, expect, test } from "bun:test";
import { renderKvReport } from "../../../cli/bench/kv/report.ts";
import { type KvRun, questionsOf } from "../../../cli/bench/kv/run.ts";
import { parseSides } from "../../../cli/bench/kv/sides.ts";
import { type SideRuns, verdictOf } from "../../../cli/bench/kv/verdict.ts";
import { documentQuestions, workingSetBlocks } from "../../../cli/bench/kv/workload.ts";
import { resolveConfig } from "../../../engine/config-values.ts";

const VALUES = resolveConfig("bench kv", {
  flags: new Map([["block-size", "8"]]),
  env: {},
}).values;

describe("sides", () => {
  test("are the common options with their own flags", () => {
    const [off, big] = parseSides(
      ["off: --no-enable-prefix-caching", " big:--num-gpu-blocks-override 99  --threads=3 "],
      VALUES,
      "m.gguf",
    );
    expect(off).toMatchObject({ name: "off", flags: "--no-enable-prefix-caching" });
    expect(off?.config).toMatchObject({
      modelPath: "m.gguf",
      enablePrefixCaching: false,
      blockSize: 8,
    });
    expect(big?.config).toMatchObject({
      ...{ numGpuBlocksOverride: 99, threads: 3, enablePrefixCaching: true, blockSize: 8 },
    });
  });

  test("are by default without a prefix cache and with the device's", () => {
    const sides = parseSides(VALUES.side, VALUES, "m.gguf");
    expect(sides.map(({ name, config }) => [name, config.enablePrefixCaching])).toEqual([
      ["off", false],
      ["device", true],
    ]);
  });

  test.each([
    [["a:"], "nothing to be compared with"],
    [["a:", "a: --isa avx2"], "`a` is given twice"],
    [["--isa avx2", "b:"], "has no name"],
    [["a: --output csv", "b:"], "--output is no option of an engine"],
    [["a: --port 1", "b:"], "unknown flag `--port`"],
    [["a: --threads many", "b:"], "`many` is not allowed"],
    [["a: extra", "b:"], "`extra` is one argument too many"],
  ])("%p are refused", (texts, says) => {
    expect(() => parseSides(texts, VALUES, "m.gguf")).toThrow(says);
  });
});

describe("questions about documents", () => {
  const options = { documents: 3, documentLen: 32, questionLen: 5, answerLen: 4, passes: 2 };
  const workload = documentQuestions(options, 1000);
  const questions = questionsOf(workload);
  const documentOf = (question: number): string => {
    return questions[question]!.promptTokenIds.slice(0, 32).join();
  };

  test("ask about each document once, then about each again", () => {
    expect(workload.conversations.map(({ id }) => id)).toEqual([
      ...["document 0 question 0", "document 1 question 0", "document 2 question 0"],
      ...["document 0 question 1", "document 1 question 1", "document 2 question 1"],
    ]);
    expect([documentOf(0) === documentOf(3), documentOf(0) === documentOf(1)]).toEqual([
      true,
      false,
    ]);
    expect(questions.every(({ promptTokenIds }) => promptTokenIds.length === 37)).toBe(true);
    expect(questions.every(({ maxTokens }) => maxTokens === 4)).toBe(true);
    expect(new Set(questions.map((one) => one.promptTokenIds.slice(32).join())).size).toBe(6);
  });

  test("are the same each time", () => {
    expect(questionsOf(documentQuestions(options, 1000))).toEqual([...questions]);
  });

  test("have a working set of the documents' blocks; a block that questions share in part is not one", () => {
    const prompts = questions.map(({ promptTokenIds }) => promptTokenIds);
    expect(workingSetBlocks(prompts, 8)).toBe(3 * 4);
    expect(workingSetBlocks(prompts, 32)).toBe(3);
    expect(workingSetBlocks(prompts, 64)).toBe(0);
    expect(workingSetBlocks(prompts.slice(0, 3), 8)).toBe(0);
  });

  test("of several turns or of text are refused", () => {
    const [first] = workload.conversations;
    const turn = first!.turns[0]!;
    const twice = { ...workload, conversations: [{ id: "c", turns: [turn, turn] }] };
    expect(() => questionsOf(twice)).toThrow("conversation c is not one prompt of tokens");
    const text = { ...turn, prompt: () => ({ kind: "text" as const, text: "?" }) };
    expect(() => questionsOf({ ...workload, conversations: [{ id: "c", turns: [text] }] })).toThrow(
      "not one prompt",
    );
  });
});

const SIDES = parseSides(VALUES.side, VALUES, "m.gguf");

function run(own: Partial<KvRun> = {}): KvRun {
  return {
    durationMs: 1000,
    cpuSeconds: 3,
    promptTokens: 900,
    cachedTokens: 0,
    outputTokens: 100,
    evictedBlocks: 0,
    numBlocks: 50,
    preemptions: 0,
    answers: new Map([["q", [1, 2, 3]]]),
    ...own,
  };
}

function measured(off: readonly KvRun[], device: readonly KvRun[]): SideRuns[] {
  return [off, device].map((runs, i) => ({ side: SIDES[i]!, runs }));
}

describe("a verdict", () => {
  test("is the ratio of the first side's times to another's", () => {
    const sides = measured(
      [run({ durationMs: 1000 }), run({ durationMs: 2000 })],
      [run({ durationMs: 500, evictedBlocks: 1 }), run({ durationMs: 1000, evictedBlocks: 1 })],
    );
    const { refusals, speedUps } = verdictOf(sides, 80);
    expect(refusals).toEqual([]);
    expect(speedUps.get("device")?.ratio).toBeCloseTo(2, 12);
  });

  test("is refused when nothing was evicted, with working set and pool", () => {
    const { refusals } = verdictOf(measured([run()], [run()]), 80);
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toContain(
      "nothing was evicted: 80 blocks come again, and the device has 50 on side off, 50 on side device",
    );
  });

  test("is refused when answers differ, whoever gave the other one", () => {
    const evicted = run({ evictedBlocks: 1 });
    const other = (tokens: number[]): KvRun => ({ ...evicted, answers: new Map([["q", tokens]]) });
    for (const [tokens, says] of [
      [[1, 2, 4], "q, token 2 is 4, not 3"],
      [[1, 2], "q, token 2 is missing, not 3"],
      [[1, 2, 3, 9], "q, token 3 is 9, not missing"],
    ] as const) {
      expect(verdictOf(measured([run()], [evicted, other([...tokens])]), 80).refusals).toEqual([
        `side device answers otherwise than side off: ${says}`,
      ]);
    }
    expect(verdictOf(measured([evicted, other([7])], [run()]), 80).refusals[0]).toContain(
      "side off answers otherwise than side off",
    );
  });
});

describe("the report", () => {
  const report = (evictedBlocks: number): Parameters<typeof renderKvReport>[0] => {
    const sides = measured([run()], [run({ evictedBlocks, cachedTokens: 300, durationMs: 500 })]);
    const workload = { name: "w", seed: 0, parameters: {} };
    return { model: "m", workload, workingSet: 80, sides, verdict: verdictOf(sides, 80) };
  };

  test("counts prompt tokens by source and the processor's time for each token", () => {
    const text = renderKvReport(report(7), "table");
    const device = text.split("\n").find((line) => line.startsWith("| device"));
    const cells = device?.split("|").map((cell) => cell.trim());
    expect(cells?.slice(3)).toEqual([
      "0.500 ± 0.0",
      "600",
      "300",
      "100",
      "50",
      "7",
      "3.00 ± 0.0",
      "",
    ]);
    expect(text).toContain("80 blocks come again.\nThe answers are the same on all sides.\n");
    expect(text).toContain("device against off, times as fast: 2.00 (one round).");
  });

  test("says why there is no verdict, and gives none", () => {
    expect(renderKvReport(report(0), "md")).toContain("No verdict: nothing was evicted");
    expect(renderKvReport(report(0), "md")).not.toContain("times as fast");
    const json = JSON.parse(renderKvReport(report(0), "json")) as {
      sides: { speed_up: unknown }[];
    };
    expect(json.sides.map((side) => side.speed_up)).toEqual([null, null]);
  });

  test("has a line for each run as jsonl, a row for each side as csv", () => {
    const lines = renderKvReport(report(7), "jsonl").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { side: "off", prompt_tokens_computed: 900, cpu_seconds_per_token: 0.003 },
      { side: "device", prompt_tokens_cached: 300, evicted_blocks: 7 },
    ]);
    expect(renderKvReport(report(7), "csv").trimEnd().split("\n")).toHaveLength(3);
  });
});
