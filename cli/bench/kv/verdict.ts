/** What may be said after the runs: ratios to the first side, or why there is no verdict. */

import { type RatioInterval, ratioInterval } from "../ratio.ts";
import type { KvRun } from "./run.ts";
import type { Side } from "./sides.ts";

export interface SideRuns {
  readonly side: Side;
  /** One for each round. */
  readonly runs: readonly KvRun[];
}

export interface Verdict {
  /** Why nothing can be concluded; empty = the ratios stand. */
  readonly refusals: readonly string[];
  /** Of each side but the first: time of the first side / its time. */
  readonly speedUps: ReadonlyMap<string, RatioInterval>;
}

export function verdictOf(sides: readonly SideRuns[], workingSet: number): Verdict {
  const [first, ...others] = sides;
  const times = (one: SideRuns | undefined): number[] =>
    one?.runs.map(({ durationMs }) => durationMs) ?? [];
  return {
    refusals: [...idleCaches(sides, workingSet), ...differentAnswers(sides)],
    speedUps: new Map(
      others.map((other) => [other.side.name, ratioInterval(times(first), times(other))]),
    ),
  };
}

/** Caches that never had to give a block away were not put to the test, and a cache below them had nothing to do. */
function idleCaches(sides: readonly SideRuns[], workingSet: number): string[] {
  const evicted = sides.flatMap(({ runs }) => runs).some(({ evictedBlocks }) => evictedBlocks > 0);
  if (evicted) return [];
  const pools = sides.map(({ side, runs }) => `${runs[0]?.numBlocks ?? 0} on side ${side.name}`);
  return [
    `nothing was evicted: ${workingSet} blocks come again, and the device has ${pools.join(", ")}; ` +
      "use more or longer documents, or a smaller --num-gpu-blocks-override",
  ];
}

/** Where KV comes from must not change an answer. */
function differentAnswers(sides: readonly SideRuns[]): string[] {
  const all = sides.flatMap(({ side, runs }) => runs.map((run) => ({ name: side.name, run })));
  const [reference, ...others] = all;
  if (reference === undefined) return [];
  const reasons = new Set<string>();
  for (const { name, run } of others) {
    const found = firstDifference(reference.run.answers, run.answers);
    if (found !== undefined)
      reasons.add(`side ${name} answers otherwise than side ${reference.name}: ${found}`);
  }
  return [...reasons];
}

function firstDifference(a: KvRun["answers"], b: KvRun["answers"]): string | undefined {
  for (const [id, tokens] of a) {
    const others = b.get(id) ?? [];
    const length = Math.max(tokens.length, others.length);
    for (let i = 0; i < length; i++) {
      if (tokens[i] !== others[i])
        return `${id}, token ${i} is ${others[i] ?? "missing"}, not ${tokens[i] ?? "missing"}`;
    }
  }
  return undefined;
}
