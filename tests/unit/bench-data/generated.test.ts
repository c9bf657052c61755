import { describe, expect, test } from "bun:test";
import { createWorkload, DATASETS } from "../../../cli/bench/datasets/registry.ts";
import { shuffled, streams } from "../../../cli/bench/datasets/random-numbers.ts";
import { OPTIONS } from "../../../engine/config.ts";
import { ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { datasetSuite } from "../../support/dataset-suite.ts";
import { thrownBy } from "../../support/thrown.ts";
import { firstPrompts, memorySource, workload, workloadOptions } from "../../support/workloads.ts";

const bytes = new ByteTokenizer();

datasetSuite("a token a byte", () => bytes);
datasetSuite(
  "a token a byte, and one before each text",
  () => new ByteTokenizer({ addBos: true }),
  {
    addsSpecial: true,
  },
);

describe("the registry", () => {
  test("has the names that --dataset-name takes", () => {
    expect(Object.keys(DATASETS)).toEqual([...OPTIONS["dataset-name"].choices]);
  });

  test("lists its names where one is unknown, and names the nearest", async () => {
    const error = await thrownBy(() => workload(bytes, "randon"));
    expect(error.code).toBe("bad_config");
    expect(error.message).toContain("the nearest is random");
    for (const name of Object.keys(DATASETS)) expect(error.hint).toContain(name);
    expect((await thrownBy(() => workload(bytes, "constructor"))).code).toBe("bad_config");
  });

  test("wants a file where one is read, and none where none is", async () => {
    for (const [name, { from }] of Object.entries(DATASETS)) {
      const text = from === "file" ? undefined : "{}";
      const error = await thrownBy(() =>
        workload(bytes, name, {}, text === undefined ? {} : { text }),
      );
      expect([name, error.code, error.subject]).toEqual([name, "bad_config", "--dataset-path"]);
    }
  });

  test("refuses no prompts where there is no file that they could be all of", async () => {
    for (const name of ["random", "prefix_repetition", "multi-turn", "agentic"]) {
      const error = await thrownBy(() => workload(bytes, name, { "num-prompts": 0 }));
      expect([error.code, error.subject]).toEqual(["bad_config", "--num-prompts"]);
    }
  });

  test("reports what a workload was made from, and nothing that it was not", () => {
    const made = workload(
      bytes,
      "random",
      { "num-prompts": 2, "random-input-len": 5 },
      { seed: 9 },
    );
    expect(made).toMatchObject({ name: "random", seed: 9 });
    expect(made.parameters).toEqual({
      "prompt-form": "tokens",
      "ignore-eos": true,
      "num-prompts": 2,
      "random-input-len": 5,
      "random-output-len": 128,
      "random-range-ratio": 0,
      "random-prefix-len": 0,
    });
    const source = memorySource("my.jsonl", '{"prompt":"hello"}\n');
    expect(createWorkload("custom", workloadOptions({}), bytes, source).parameters).toMatchObject({
      "dataset-path": "my.jsonl",
      "dataset-bytes": 19,
    });
  });

  test("lets answers end when --no-ignore-eos is given", () => {
    for (const ignoreEos of [true, false]) {
      const made = workload(bytes, "random", { "num-prompts": 1, "ignore-eos": ignoreEos });
      expect(made.conversations[0]!.turns[0]!.ignoreEos).toBe(ignoreEos);
    }
  });
});

describe("random numbers", () => {
  test("are these, on every machine and in every version", () => {
    // As another implementation of sfc32 gives them.
    const random = streams(0, "test")(3);
    expect(Array.from({ length: 4 }, () => random.next())).toEqual([
      3312976862, 3352162449, 2309726612, 832578690,
    ]);
    expect([...shuffled(8, streams(1, "order")(0))]).toEqual([2, 3, 7, 0, 4, 5, 6, 1]);
    const [ids] = firstPrompts(
      bytes,
      workload(bytes, "random", { "num-prompts": 1, "random-input-len": 12 }),
    );
    expect(bytes.decode(ids!)).toBe("xgbordhvbpqj");
  });

  test("of neighbouring places and families have nothing in common, and are even", () => {
    const first = (family: string, place: number): number => streams(0, family)(place).next();
    const seen = new Set<number>();
    for (let place = 0; place < 2000; place++) {
      seen.add(first("a", place));
      seen.add(first("b", place));
      seen.add(first("a", place + 2 ** 32));
    }
    expect(seen.size).toBeGreaterThan(5990);
    const random = streams(0, "even")(0);
    const counts = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 10_000; i++) counts[random.below(10)]!++;
    for (const count of counts) expect(count).toBeWithin(880, 1120);
  });
});

describe("orders", () => {
  test("of prefix_repetition are shuffled, unless they are to be kept", () => {
    const groups = (flags: object): string[] =>
      workload(bytes, "prefix_repetition", {
        "num-prompts": 40,
        "prefix-repetition-num-prefixes": 4,
        ...flags,
      }).conversations.map(({ id }) => id.split("-")[1]!);
    const kept = groups({ "disable-shuffle": true });
    expect(kept).toEqual(kept.toSorted());
    const mixed = groups({});
    expect(mixed).not.toEqual(kept);
    expect(mixed.toSorted()).toEqual(kept);
  });

  test("of prefix_repetition need a prompt for each prefix", async () => {
    const error = await thrownBy(() => workload(bytes, "prefix_repetition", { "num-prompts": 9 }));
    expect(error.message).toContain("--num-prompts is 9; allowed is at least");
    expect(error.message).toContain("10");
    expect(workload(bytes, "prefix_repetition", { "num-prompts": 10 }).conversations).toHaveLength(
      10,
    );
  });

  test("of documents are those of vLLM's modes", () => {
    const order = (mode: string): string[] =>
      workload(bytes, "long-document", {
        "long-document-num-documents": 3,
        "long-document-document-len": 20,
        "long-document-repeat-count": 2,
        "long-document-repeat-mode": mode,
      }).conversations.map(({ id }) => id.slice("document-".length));
    expect(order("tile")).toEqual(["0-0", "1-0", "2-0", "0-1", "1-1", "2-1"]);
    expect(order("interleave")).toEqual(["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]);
    expect(order("random").toSorted()).toEqual(order("interleave"));
    expect(order("random")).not.toEqual(order("tile"));
  });
});

describe("chats and agents", () => {
  test("of multi-turn stand for as many clients as they are said to", () => {
    expect(workload(bytes, "multi-turn", { "multi-turn-clients": 4 }).clients).toBe(4);
    expect(workload(bytes, "multi-turn").clients).toBeUndefined();
    expect(workload(bytes, "random").clients).toBeUndefined();
  });

  test("think between turns, for exponentially distributed times with the mean that was asked for", () => {
    const times = pauses("multi-turn", { "multi-turn-think-time": 2000, "multi-turn-turns": 11 });
    expect(times).toHaveLength(1000);
    expect(mean(times)).toBeWithin(1850, 2150);
    const median = times.toSorted((a, b) => a - b)[500]!;
    expect(median).toBeWithin(2000 * Math.LN2 * 0.9, 2000 * Math.LN2 * 1.1);
    expect(pauses("multi-turn", {})).toEqual(Array.from({ length: 500 }, () => 0));
  });

  test("wait for tools, for times with the median and the tail of the traces", () => {
    const times = pauses("agentic", { "agentic-turns": 51, "length-scale": 0.001 }).toSorted(
      (a, b) => a - b,
    );
    expect(times).toHaveLength(5000);
    expect(times[2500]).toBeWithin(4900, 5500);
    expect(times[4950]).toBeWithin(68_000, 96_000);
    const none = pauses("agentic", { "agentic-tool-time": 0, "length-scale": 0.001 });
    expect(new Set(none)).toEqual(new Set([0]));
  });

  test("of agents are the published twin at scale 1, and the same ratios below it", () => {
    const twin = workload(bytes, "agentic", { "num-prompts": 1 }).conversations[0]!;
    expect(twin.turns).toHaveLength(30);
    expect(twin.turns[0]!.numPromptTokens).toBe(30_000);
    expect(twin.turns.map(({ maxTokens }) => maxTokens)).toEqual(
      Array.from({ length: 30 }, () => 900),
    );
    const answer = { text: "", tokenIds: Array.from({ length: 900 }, () => 65) };
    const last = twin.turns[29]!.prompt(Array.from({ length: 29 }, () => answer));
    expect(last).toMatchObject({ tokenIds: { length: 30_000 + 29 * (2048 + 900) } });
    const tenth = workload(bytes, "agentic", { "num-prompts": 1, "length-scale": 0.1 })
      .conversations[0]!;
    expect([tenth.turns[0]!.numPromptTokens, tenth.turns[0]!.maxTokens]).toEqual([3000, 90]);
    expect(tenth.turns[1]!.prompt([{ text: "" }])).toMatchObject({ tokenIds: { length: 3205 } });
  });
});

/** Of all turns but the first ones. */
function pauses(name: string, flags: object): number[] {
  const { conversations } = workload(bytes, name, { "num-prompts": 100, ...flags });
  return conversations.flatMap(({ turns }) => {
    expect(turns[0]!.thinkTimeMs).toBe(0);
    return turns.slice(1).map(({ thinkTimeMs }) => thinkTimeMs);
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
