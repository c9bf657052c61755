import { describe, expect, test } from "bun:test";
import { type ComparedSide, kvFindings } from "../../../cli/bench/kv/findings.ts";
import { parseSides } from "../../../cli/bench/kv/sides.ts";
import { workingSetOf } from "../../../cli/bench/kv/working-set.ts";
import { benchReport } from "../../../cli/bench/report/bench-report.ts";
import { reportJson } from "../../../cli/bench/report/json.ts";
import { reportText } from "../../../cli/bench/report/text.ts";
import type { Conversation, Prompt, Run, Turn } from "../../../cli/bench/types.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";
import { resolveFlags } from "../../support/flag-values.ts";

const VALUES = resolveFlags("bench kv", new Map([["block-size", "8"]]));

describe("sides", () => {
  test("are the common options with their own flags", () => {
    const [off, big] = parseSides(
      [
        "off: --no-enable-prefix-caching",
        ' big:--num-gpu-blocks-override 99  --kv-connector-options \'{"mode": "lazy"}\'',
      ],
      VALUES,
    );
    expect(off).toMatchObject({ name: "off", flags: "--no-enable-prefix-caching" });
    expect(off?.values).toMatchObject({ enablePrefixCaching: false, blockSize: 8 });
    expect(big?.values).toMatchObject({
      ...{ numGpuBlocksOverride: 99, enablePrefixCaching: true, blockSize: 8 },
      kvConnectorOptions: '{"mode": "lazy"}',
    });
  });

  test("are by default without a prefix cache and with the device's", () => {
    const sides = parseSides(VALUES.side, VALUES);
    expect(sides.map(({ name, values }) => [name, values.enablePrefixCaching])).toEqual([
      ["off", false],
      ["device", true],
    ]);
  });

  test.each([
    [["a:"], "nothing to be compared with"],
    [["a:", "a: --isa avx2"], "`a` is given twice"],
    [["--isa avx2", "b:"], "has no name"],
    [["a: --report x.csv", "b:"], "--report is no option of an engine"],
    [["a: --port 1", "b:"], "unknown flag `--port`"],
    [["a: --threads many", "b:"], "`many` is not allowed"],
    [["a: extra", "b:"], "`extra` is one argument too many"],
  ])("%p are refused", (texts, says) => {
    expect(() => parseSides(texts, VALUES)).toThrow(says);
  });
});

describe("the working set", () => {
  const encode = (prompt: Prompt): Int32Array =>
    Int32Array.from(prompt.kind === "tokens" ? prompt.tokenIds : []);

  function asking(id: string, ...prompts: readonly Turn["prompt"][]): Conversation {
    return {
      id,
      turns: prompts.map((prompt) => ({ thinkTimeMs: 0, maxTokens: 4, ignoreEos: true, prompt })),
    };
  }

  function tokens(first: number, length: number, last = 0): Turn["prompt"] {
    const tokenIds = Array.from({ length }, (_, i) => (i === length - 1 ? last : first + i));
    return () => ({ kind: "tokens", tokenIds });
  }

  test("is the whole blocks that more than one prompt begins with", () => {
    // Two questions about each of two documents of 32 tokens, and one about a third.
    const conversations = [100, 200, 100, 200, 300].map((document, i) =>
      asking(`q${i}`, tokens(document, 37, i)),
    );
    expect(workingSetOf({ conversations }, encode, 8)).toEqual({
      blocks: 8,
      total: 22,
      longest: 6,
    });
    expect(workingSetOf({ conversations }, encode, 32)).toEqual({
      blocks: 2,
      total: 13,
      longest: 2,
    });
    expect(workingSetOf({ conversations }, encode, 64).blocks).toBe(0);
    expect(workingSetOf({ conversations: conversations.slice(0, 2) }, encode, 8).blocks).toBe(0);
  });

  test("has the answers that later turns carry", () => {
    const chat = asking("chat", tokens(1, 8), (before) => ({
      kind: "tokens",
      tokenIds: [...encode(tokens(1, 8)(before)), ...(before[0]?.tokenIds ?? []), 7, 7, 7, 7, 7],
    }));
    // 8 tokens; then those, 4 answered and 5 asked.
    expect(workingSetOf({ conversations: [chat] }, encode, 4)).toEqual({
      blocks: 2,
      total: 8,
      longest: 6,
    });
  });
});

const SIDES: readonly ComparedSide[] = [
  { name: "off", flags: "", numBlocks: 50, keepsBelow: false },
  { name: "host", flags: "--kv-connector cpu-offload", numBlocks: 50, keepsBelow: true },
];

interface Own {
  readonly text?: string;
  readonly tiers?: Readonly<Record<string, number>>;
  readonly evicted?: number;
}

function run(label: string, { text = "yes", tiers = {}, evicted = 0 }: Own = {}): Run {
  const cachedTokens = Object.values(tiers).reduce((sum, tokens) => sum + tokens, 0);
  const record = recordOf(0, [10, 20], {
    ...{ promptTokens: 98, outputTokens: 2, text, cachedTokens, cachedByTier: tiers },
  });
  return runOf([record], {
    label,
    client: { cpuSeconds: 0.3, lagP99Ms: 0, lagMaxMs: 0 },
    counters: { "kvengine:evicted_blocks_total": evicted, "vllm:num_preemptions_total": 1 },
  });
}

describe("what the caches did", () => {
  test("is the mean over the runs of each side", () => {
    const runs = [
      run("off", { evicted: 4 }),
      run("host", { evicted: 8, tiers: { device: 8, host: 40 } }),
      run("host", { evicted: 9, tiers: { host: 60 } }),
    ];
    const { sides, refusals, workingSet } = kvFindings(SIDES, runs, 80);
    expect([workingSet, refusals]).toEqual([80, []]);
    expect(sides[0]).toMatchObject({ tokens: { computed: 98 }, evictedBlocks: 4, numBlocks: 50 });
    expect(sides[1]).toMatchObject({
      tokens: { computed: 44, device: 4, host: 50 },
      ...{ evictedBlocks: 8.5, preemptions: 1, cpuMsPerToken: 3 },
    });
  });

  test("refuses a verdict when no side evicted anything", () => {
    const { refusals } = kvFindings(SIDES, [run("off"), run("host", { tiers: { host: 9 } })], 80);
    expect(refusals).toEqual([expect.stringContaining("nothing was evicted")]);
  });

  test("refuses one when what a side keeps below the device never came back", () => {
    const runs = [run("off", { evicted: 4 }), run("host", { evicted: 4, tiers: { device: 90 } })];
    expect(kvFindings(SIDES, runs, 80).refusals).toEqual([
      expect.stringContaining("nothing came back"),
    ]);
    const without = SIDES.map((side) => ({ ...side, keepsBelow: false }));
    expect(kvFindings(without, runs, 80).refusals).toEqual([]);
  });

  test("refuses one when any run answers otherwise than the first", () => {
    const host = { evicted: 4, tiers: { host: 8 } };
    const runs = [run("off"), run("host", host), run("host", { ...host, text: "yet" })];
    expect(kvFindings(SIDES, runs, 80).refusals).toEqual([
      expect.stringContaining("1 of 1 answers of side host differ"),
    ]);
  });
});

describe("the report", () => {
  const report = (evicted: number): ReturnType<typeof benchReport> => {
    const host = { evicted, tiers: { host: 60 } };
    const runs = [run("off"), run("host", host), run("host", host), run("off")];
    return benchReport(runs, { version: "0.1.0", kv: kvFindings(SIDES, runs, 80) });
  };

  test("has a row a side and compares them", () => {
    const text = reportText(report(7));
    expect(text).toMatch(/host +--kv-connector cpu-offload +50 +7 +1 +38 +60 +3\n/);
    expect(text).toContain("80 blocks come again.\n  The answers are the same on all sides.\n");
    expect(text).toContain("a = off (2 runs), b = host (2 runs)");
  });

  test("says why there is no verdict, and compares nothing", () => {
    const refused = report(0);
    expect(reportText(refused)).toContain("No verdict: nothing was evicted");
    expect(refused.comparisons).toEqual([]);
    const json = JSON.parse(reportJson(refused)) as object;
    expect(json).toMatchObject({ comparisons: [], kv: { workingSet: 80 } });
  });
});
