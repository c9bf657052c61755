/** What the caches of each side did, and whether a verdict may be given. */

import { compareAnswers, reasonsForNoVerdict, type WantedEvictions } from "../ab/answers.ts";
import { counterTotal } from "../metrics/counters.ts";
import { mean, sum } from "../metrics/distribution.ts";
import { promptSources } from "../metrics/prompt-sources.ts";
import type { KvFindings, KvSide } from "../report/report.ts";
import type { Run } from "../types.ts";

/** A side of the session. */
export interface ComparedSide {
  readonly name: string;
  readonly flags: string;
  /** KV blocks of its device, where they are known. */
  readonly numBlocks?: number;
  /** It has a connector. */
  readonly keepsBelow: boolean;
}

/**
 * @param runs of all sides, labelled by their names.
 * @param workingSet blocks that come again, where that is known.
 * @param wanted what must have become of KV for a verdict.
 */
export function kvFindings(
  sides: readonly ComparedSide[],
  runs: readonly Run[],
  workingSet: number | undefined,
  wanted: WantedEvictions = "some",
): KvFindings {
  const found = sides.map((side) =>
    sideOf(
      side,
      runs.filter(({ label }) => label === side.name),
    ),
  );
  const [reference, ...others] = runs;
  const below = found.filter((_, i) => sides[i]?.keepsBelow).map(({ tokens }) => tokens);
  const refusals = reasonsForNoVerdict({
    wanted,
    evictedBlocks: sum(found.map(({ evictedBlocks }) => evictedBlocks)),
    ...(below.length === 0 ? {} : { tierHitTokens: sum(below.map(tokensBelow)) }),
    answers: others.map((run) => ({
      side: run.label,
      comparison: compareAnswers(reference ?? run, run),
    })),
  });
  return { ...(workingSet === undefined ? {} : { workingSet }), sides: found, refusals };
}

/** Means over its runs. */
function sideOf({ name, flags, numBlocks }: ComparedSide, runs: readonly Run[]): KvSide {
  const sources = runs.map((run) => promptSources(run).tokens);
  const names = [...new Set(sources.flatMap((tokens) => Object.keys(tokens)))];
  const counter = (key: string): number =>
    mean(runs.map(({ counters }) => counterTotal(counters, key) ?? 0));
  return {
    name,
    flags,
    ...(numBlocks === undefined ? {} : { numBlocks }),
    tokens: Object.fromEntries(
      names.map((source) => [source, mean(sources.map((tokens) => tokens[source] ?? 0))]),
    ),
    evictedBlocks: counter("kvengine:evicted_blocks_total"),
    preemptions: counter("vllm:num_preemptions_total"),
    cpuMsPerToken: mean(runs.map(cpuMsPerToken)),
  };
}

/** Of prompts and outputs together: what a token costs that somebody asked for. */
function cpuMsPerToken({ client, records }: Run): number {
  const tokens = sum(records.map(({ promptTokens, outputTokens }) => promptTokens + outputTokens));
  return tokens === 0 ? 0 : (1000 * client.cpuSeconds) / tokens;
}

function tokensBelow(tokens: KvSide["tokens"]): number {
  const { computed = 0, device = 0, ...below } = tokens;
  return sum(Object.values(tokens)) - computed - device - (below["cached"] ?? 0);
}
