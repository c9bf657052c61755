import { describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gridOf, type ParallelTest, type SingleTest } from "../../../cli/bench/engine/grid.ts";
import { findLlamaCpp } from "../../../cli/bench/engine/llama-cpp.ts";
import {
  batchedBenchCommand,
  benchCommand,
  parseBatchedBench,
  parseBench,
  settingsOf,
} from "../../../cli/bench/engine/llama-cpp-programs.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

/** What the programs of llama.cpp (in llama_cpp_python 0.3.36) printed for the grids below. */
const vector = (name: string): Promise<string> => {
  return Bun.file(join(import.meta.dir, "vectors", name)).text();
};
const NONE = { nParallel: [0], nParallelPrompt: [16], nParallelGen: [4], sharedPrompt: false };
/** `-p 16,32 -n 4 -pg 16,4 -d 0,32 -r 1 -o json -fa 0` */
const SINGLES = gridOf({
  ...{ ...NONE, nPrompt: [16, 32], nGen: [4], nPromptGen: [[16, 4]], nDepth: [0, 32] },
}).filter((test): test is SingleTest => test.kind === "single");
/** `-npp 16 -ntg 4 -npl 1,2 -c 64 --output-format jsonl -fa 1` */
const PARALLELS = gridOf({
  ...{ ...NONE, nPrompt: [0], nGen: [0], nPromptGen: [], nDepth: [0], nParallel: [1, 2] },
}).filter((test): test is ParallelTest => test.kind === "parallel");

const PEER = { folder: "bin", modelPath: "m.gguf", threads: 2 };
const text = (command: readonly string[]): string => command.join(" ");

describe("command lines", () => {
  test("give llama-bench the lists that the grid was made of", () => {
    expect(text(benchCommand(PEER, SINGLES, "-fa 0"))).toBe(
      "llama-bench -m m.gguf -t 2 -p 16,32 -n 4 -pg 16,4 -d 0,32 -r 1 -o json -fa 0",
    );
    const prompts = SINGLES.filter(({ nGen, nDepth }) => nGen === 0 && nDepth === 0);
    expect(text(benchCommand(PEER, prompts, "-fa 1"))).toBe(
      "llama-bench -m m.gguf -t 2 -p 16,32 -n 0 -d 0 -r 1 -o json -fa 1",
    );
  });

  test("give llama-batched-bench a context for the widest and longest test", () => {
    expect(text(batchedBenchCommand(PEER, PARALLELS, "-fa 1"))).toBe(
      "llama-batched-bench -m m.gguf -t 2 -npp 16 -ntg 4 -npl 1,2 -c 40 --output-format jsonl -fa 1",
    );
    const shared = PARALLELS.map((one) => ({ ...one, shared: true }));
    expect(text(batchedBenchCommand(PEER, shared, "-fa 1"))).toContain(" -pps -c 40 ");
  });
});

describe("settings", () => {
  test("prompts of more than 128 tokens are tried in parts of 128 too, all others with flash attention off and on", () => {
    const settings = (nPrompt: number, nGen: number): readonly string[] =>
      settingsOf({ kind: "single", nPrompt, nGen, nDepth: 4096 });
    expect(settings(0, 64)).toEqual(["-fa 0", "-fa 1"]);
    expect(settings(128, 0)).toEqual(["-fa 0", "-fa 1"]);
    expect(settings(129, 0)).toEqual(["-fa 0", "-fa 1", "-fa 1 -ub 128"]);
  });

  test("a shared prompt is tried with one KV cache for all sequences too", () => {
    const settings = (shared: boolean): readonly string[] =>
      settingsOf({ kind: "parallel", nPrompt: 128, nGen: 64, nParallel: 32, shared });
    expect(settings(false)).toEqual(["-fa 0", "-fa 1"]);
    expect(settings(true)).toEqual(["-fa 0", "-fa 1", "-fa 0 -kvu", "-fa 1 -kvu"]);
  });
});

describe("what the programs print", () => {
  test("llama-bench: a rate for each test, in the order of the tests", async () => {
    const rates = parseBench(await vector("llama-bench.json"), SINGLES, "-fa 0");
    expect(rates.map(({ test }) => test)).toEqual([
      ...["single pp16", "single pp32", "single tg4", "single pp16+tg4"],
      ...["single pp16 @ d32", "single pp32 @ d32", "single tg4 @ d32", "single pp16+tg4 @ d32"],
    ]);
    expect(rates[0]).toEqual({
      test: "single pp16",
      part: "both",
      settings: "-fa 0",
      tokensPerSecond: 44.117026,
    });
    expect(new Set(rates.map(({ tokensPerSecond }) => tokensPerSecond)).size).toBe(8);
  });

  test("llama-batched-bench: three rates for each test", async () => {
    const rates = parseBatchedBench(await vector("llama-batched-bench.txt"), PARALLELS, "-fa 1");
    const rows = rates.map(({ part, tokensPerSecond }) => `${part} ${tokensPerSecond}`);
    expect(rows).toEqual([
      ...["prompt 305.454254", "gen 119.111435", "both 232.658249"],
      ...["prompt 312.198151", "gen 133.945023", "both 246.571106"],
    ]);
  });

  test("a test that is missing, and text that is no JSON, are named", async () => {
    const other = [{ ...SINGLES[0]!, nPrompt: 17 }];
    const printed = await vector("llama-bench.json");
    expect(() => parseBench(printed, other, "-fa 0")).toThrow(
      "llama-bench printed no avg_ts for pp17",
    );
    expect(() => parseBench("main: error", SINGLES, "-fa 0")).toThrow("printed what is no JSON");
    expect(() => parseBench("{}", SINGLES, "-fa 0")).toThrow("no avg_ts for pp16");
    expect(() => parseBatchedBench("", PARALLELS, "-fa 1")).toThrow(
      "llama-batched-bench printed no speed_pp for pp16 x1",
    );
  });
});

describe("--peer", () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "llama-bench"), "#!/bin/sh\n");
  chmodSync(join(folder, "llama-bench"), 0o755);

  test("names a folder with the programs that the tests need", async () => {
    expect(await findLlamaCpp([`llama.cpp=${folder}`], SINGLES)).toBe(folder);
    expect(await findLlamaCpp([], SINGLES)).toBeUndefined();
    const error = await thrownBy(() => findLlamaCpp([`llama.cpp=${folder}`], PARALLELS));
    expect([error.code, error.message]).toEqual([
      "bad_config",
      `--peer: llama-batched-bench cannot be run in ${folder}`,
    ]);
  });

  test("is one", async () => {
    const peers = [`llama.cpp=${folder}`, `llama.cpp=${folder}`];
    expect((await thrownBy(() => findLlamaCpp(peers, SINGLES))).message).toContain(
      "allowed is one",
    );
  });

  test.each(["llama.cpp", "llama.cpp=", "vllm=/opt", folder])("%p is refused", async (peer) => {
    const error = await thrownBy(() => findLlamaCpp([peer], SINGLES));
    expect(error.hint).toContain("llama.cpp=folder");
  });
});
