/** The command lines of llama-bench and llama-batched-bench for our tests, and what they print. */

import { KvEngineError } from "../../../engine/errors.ts";
import { nameOf, type ParallelTest, type Part, rowOf, type SingleTest, type Test } from "./grid.ts";

/** A rate of the peer. */
export interface PeerRate {
  /** `nameOf` of the test. */
  readonly test: string;
  readonly part: Part;
  /** As on its command line. */
  readonly settings: string;
  readonly tokensPerSecond: number;
}

export interface LlamaCpp {
  /** Folder of the programs. */
  readonly folder: string;
  readonly modelPath: string;
  readonly threads: number;
}

/** Below its usual 512: a smaller part of a prompt stays in the caches. */
const SMALL_BATCH = 128;

/**
 * The settings that a test is tried with: flash attention off and on; where there are prompts to cut, in smaller parts too; where a
 * prompt is shared, with one KV cache for all sequences too, in which it stands once.
 */
export function settingsOf(test: Test): readonly string[] {
  return [
    "-fa 0",
    "-fa 1",
    ...(test.nPrompt > SMALL_BATCH ? [`-fa 1 -ub ${SMALL_BATCH}`] : []),
    ...(test.kind === "parallel" && test.shared ? ["-fa 0 -kvu", "-fa 1 -kvu"] : []),
  ];
}

/** The grid as it was given: its tests are all combinations of their lengths, so one call has them all and no others. */
export function benchCommand(
  peer: LlamaCpp,
  tests: readonly SingleTest[],
  settings: string,
): string[] {
  const prompts = tests.filter(({ nGen }) => nGen === 0).map(({ nPrompt }) => nPrompt);
  const outputs = tests.filter(({ nPrompt }) => nPrompt === 0).map(({ nGen }) => nGen);
  const pairs = tests
    .filter(({ nPrompt, nGen }) => nPrompt > 0 && nGen > 0)
    .map(({ nPrompt, nGen }) => `${nPrompt},${nGen}`);
  return [
    "llama-bench",
    ...["-m", peer.modelPath, "-t", String(peer.threads)],
    ...["-p", listOf(prompts), "-n", listOf(outputs)],
    ...[...new Set(pairs)].flatMap((pair) => ["-pg", pair]),
    ...["-d", listOf(tests.map(({ nDepth }) => nDepth)), "-r", "1", "-o", "json"],
    ...settings.split(" "),
  ];
}

export function batchedBenchCommand(
  peer: LlamaCpp,
  tests: readonly ParallelTest[],
  settings: string,
): string[] {
  const context =
    Math.max(...tests.map((test) => test.nParallel)) *
    Math.max(...tests.map(({ nPrompt, nGen }) => nPrompt + nGen));
  return [
    "llama-batched-bench",
    ...["-m", peer.modelPath, "-t", String(peer.threads)],
    ...["-npp", listOf(tests.map(({ nPrompt }) => nPrompt))],
    ...["-ntg", listOf(tests.map(({ nGen }) => nGen))],
    ...["-npl", listOf(tests.map(({ nParallel }) => nParallel))],
    ...(tests.some(({ shared }) => shared) ? ["-pps"] : []),
    ...["-c", String(context), "--output-format", "jsonl"],
    ...settings.split(" "),
  ];
}

/** `0` = none, for llama-bench. */
function listOf(numbers: readonly number[]): string {
  return numbers.length === 0 ? "0" : [...new Set(numbers)].join(",");
}

/** What `llama-bench -o json` printed. Throws `unsupported` when a test is not in it. */
export function parseBench(
  json: string,
  tests: readonly SingleTest[],
  settings: string,
): PeerRate[] {
  const parsed: unknown = parseJson(json, "llama-bench");
  const rows: readonly unknown[] = Array.isArray(parsed) ? parsed : [];
  return tests.map((test) => {
    const row = rows.find(
      (one) =>
        numberOf(one, "n_prompt") === test.nPrompt &&
        numberOf(one, "n_gen") === test.nGen &&
        numberOf(one, "n_depth") === test.nDepth,
    );
    return rateOf("llama-bench", row, "avg_ts", test, "both", settings);
  });
}

/** What `llama-batched-bench --output-format jsonl` printed. Throws `unsupported` when a test is not in it. */
export function parseBatchedBench(
  said: string,
  tests: readonly ParallelTest[],
  settings: string,
): PeerRate[] {
  const program = "llama-batched-bench";
  const lines = said.split("\n").filter((line) => line.startsWith("{"));
  const rows = lines.map((line) => parseJson(line, program));
  return tests.flatMap((test) => {
    const row = rows.find(
      (one) =>
        numberOf(one, "pp") === test.nPrompt &&
        numberOf(one, "tg") === test.nGen &&
        numberOf(one, "pl") === test.nParallel,
    );
    return [
      rateOf(program, row, "speed_pp", test, "prompt", settings),
      rateOf(program, row, "speed_tg", test, "gen", settings),
      rateOf(program, row, "speed", test, "both", settings),
    ];
  });
}

function rateOf(
  program: string,
  row: unknown,
  key: string,
  test: Test,
  part: Part,
  settings: string,
): PeerRate {
  const tokensPerSecond = numberOf(row, key);
  if (tokensPerSecond === undefined) {
    throw new KvEngineError(
      "unsupported",
      `${program} printed no ${key} for ${rowOf(test, part).test}`,
      { subject: program, hint: "another version of llama.cpp may print another form" },
    );
  }
  return { test: nameOf(test), part, settings, tokensPerSecond };
}

function parseJson(text: string, program: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KvEngineError(
      "unsupported",
      `${program} printed what is no JSON: ${JSON.stringify(text.slice(0, 200))}`,
      { subject: program, cause },
    );
  }
}

function numberOf(row: unknown, key: string): number | undefined {
  if (typeof row !== "object" || row === null) return undefined;
  const value = (row as Readonly<Record<string, unknown>>)[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
