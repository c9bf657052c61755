import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { parseResults, readResultFile, sidesOf } from "../../../cli/bench/ab/result-file.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

/** As `vllm bench serve --save-result` writes them (shortened). */
const VLLM = {
  date: "20260131-235900",
  endpoint_type: "openai",
  backend: "openai",
  label: null,
  model_id: "tiny",
  tokenizer_id: "tiny",
  num_prompts: 100,
  request_rate: "inf",
  burstiness: 1,
  max_concurrency: 8,
  duration: 12.5,
  completed: 100,
  failed: 0,
  output_throughput: 640.25,
  request_goodput: null,
  mean_ttft_ms: 50,
  p99_tpot_ms: 12.5,
};

describe("a result file", () => {
  test("of vLLM is read: figures by key, time, conditions, the file as label", () => {
    const [row, ...more] = parseResults(JSON.stringify(VLLM), "before.json");
    expect(more).toEqual([]);
    expect(row).toMatchObject({
      label: "before.json",
      startedAt: Date.UTC(2026, 0, 31, 23, 59, 0),
      conditions: {
        model_id: "tiny",
        num_prompts: "100",
        request_rate: "inf",
        max_concurrency: "8",
      },
    });
    expect(row?.metrics).toMatchObject({ output_throughput: 640.25, p99_tpot_ms: 12.5 });
    expect("request_goodput" in (row?.metrics ?? {})).toBe(false);
  });

  test("may hold several runs: a list, `runs`, or one object a line", () => {
    const two = [VLLM, { ...VLLM, label: "b", started_at: "2026-02-01T00:00:00.250Z" }];
    const forms = [
      JSON.stringify(two),
      JSON.stringify({ kvengine_version: "0.1.0", runs: two, comparisons: [] }),
      `${two.map((one) => JSON.stringify(one)).join("\n")}\n\n`,
    ];
    for (const text of forms) {
      const rows = parseResults(text, "x.json");
      expect(rows.map(({ label }) => label)).toEqual(["x.json", "b"]);
      expect(rows[1]?.startedAt).toBe(Date.UTC(2026, 1, 1, 0, 0, 0, 250));
    }
  });

  test("does not hold the number of requests against runs that end by time", () => {
    const timed = { ...VLLM, max_duration: 60 };
    const [row] = parseResults(JSON.stringify(timed), "x.json");
    expect(row?.conditions["num_prompts"]).toBeUndefined();
    expect(row?.conditions["max_duration"]).toBe("60");
  });

  for (const [name, text, says] of [
    ["is empty", "", "x.json: is no JSON"],
    ["is cut off", '{"duration": 12', "x.json: is no JSON"],
    ["is cut off in a line", `${JSON.stringify(VLLM)}\n{"dur`, "x.json, line 2: is no JSON"],
    ["is a number", "5", "x.json: Invalid input: expected object"],
    ["is an empty list", "[]", "x.json: holds no run"],
    ["has no run in it", '{"runs": []}', "x.json: holds no run"],
    ["is of another tool", '{"benchmarks": []}', "x.json: `duration`"],
    ["has text for a number", JSON.stringify({ ...VLLM, duration: "12" }), "x.json: `duration`"],
    ["has a negative duration", JSON.stringify({ ...VLLM, duration: -1 }), "x.json: `duration`"],
    [
      "has one bad run",
      JSON.stringify([VLLM, { ...VLLM, completed: -1 }]),
      "x.json, run 2: `completed`",
    ],
    ["has no figures", '{"duration": 1, "completed": 0}', "has no throughput and no latency"],
  ] as const) {
    test(`that ${name} is refused, naming the place`, async () => {
      const error = await thrownBy(() => parseResults(text, "x.json"));
      expect(error.code).toBe("bad_config");
      expect(error.message).toContain(says);
      expect(error.hint).toContain("--report a.json");
    });
  }

  test("that is not there is refused by its path", async () => {
    const path = join(temporaryFolder(), "none.json");
    const error = await thrownBy(() => readResultFile(path));
    expect([error.code, error.message]).toEqual([
      "bad_config",
      `the result file ${path} cannot be read`,
    ]);
  });
});

describe("the sides", () => {
  const rows = (labels: readonly string[]): ReturnType<typeof parseResults> =>
    parseResults(JSON.stringify(labels.map((label) => ({ ...VLLM, label }))), "ab.json");

  test("are the files, named by their label and path", () => {
    const sides = sidesOf([
      { path: "one.json", rows: rows(["kvengine", "kvengine"]) },
      { path: "two.json", rows: rows(["kvengine", "vllm"]) },
    ]);
    expect(sides.map(({ label, runs }) => [label, runs.length])).toEqual([
      ["kvengine (one.json)", 2],
      ["two.json", 2],
    ]);
  });

  test("are the labels of one file, the first one first", () => {
    const sides = sidesOf([{ path: "ab.json", rows: rows(["b", "a", "a", "b", "c"]) }]);
    expect(sides.map(({ label, runs }) => [label, runs.length])).toEqual([
      ["b", 2],
      ["a", 2],
      ["c", 1],
    ]);
  });

  test("cannot be made of one file with one label", async () => {
    const error = await thrownBy(() => sidesOf([{ path: "a.json", rows: rows(["a", "a"]) }]));
    expect(error.message).toBe("a.json has one side only, a: there is nothing to compare it with");
  });
});
