/** `--slo-search`: runs at one rate after the other, and what they found. */

import type { OptionValues } from "../../engine/config.ts";
import { SATURATION_RULE, type SaturationRule } from "./load/saturation.ts";
import { type Probe, searchRate, type SloSearchResult } from "./load/slo-search.ts";
import type { BenchParts } from "./parts.ts";
import { SLO_METRICS, type SloTargets } from "./slo.ts";
import type { Run } from "./types.ts";

/** What a probe is to be. */
export interface ProbePlan {
  readonly rate: number;
  readonly numPrompts: number;
  /** Another one each time, so that no probe finds the prompts of another one cached. */
  readonly seed: number;
  readonly saturation: SaturationRule;
}

export interface SloInput {
  readonly targets: SloTargets;
  readonly values: SloValues;
  readonly latency: BenchParts["latency"];
  readonly run: (probe: ProbePlan) => Promise<Run>;
}

type SloValues = Pick<
  OptionValues,
  "requestRate" | "seed" | "sloMaxRate" | "sloTolerance" | "sloProbeTime" | "sloPercentile"
>;

/** Fewer conversations say nothing of a percentile. */
const MIN_PROMPTS = 20;
const MIN_RATE = 0.001;
const MAX_PROBES = 40;
/** Where no rate is given. */
const FIRST_RATE = 1;
/** A probe is short: what cannot keep up shows sooner than guidellm waits for it. */
const SOONEST_VERDICT_MS = 10_000;

export async function runSloSearch(input: SloInput): Promise<SloSearchResult<Run>> {
  const { values, targets } = input;
  const saturation = {
    ...SATURATION_RULE,
    minimumMs: SOONEST_VERDICT_MS,
    slowTtftMs: targets.ttft ?? SATURATION_RULE.slowTtftMs,
  };
  let probes = 0;
  return searchRate(
    {
      start: Number.isFinite(values.requestRate) ? values.requestRate : FIRST_RATE,
      min: MIN_RATE,
      max: values.sloMaxRate,
      tolerance: values.sloTolerance,
      maxProbes: MAX_PROBES,
    },
    async (rate) => {
      const numPrompts = Math.max(MIN_PROMPTS, Math.ceil(rate * values.sloProbeTime));
      const run = await input.run({ rate, numPrompts, seed: values.seed + probes++, saturation });
      return run.stopped === "interrupted" ? undefined : judge(rate, run, input);
    },
  );
}

/** A request that failed, or was not sent, kept no promise. */
function judge(
  rate: number,
  run: Run,
  { targets, values, latency }: Pick<SloInput, "targets" | "values" | "latency">,
): Probe<Run> {
  const failed = run.records.filter(({ outcome }) => outcome !== "ok").length;
  const reasons: string[] = [];
  if (run.stopped !== undefined && run.stopped !== "duration") reasons.push(run.stopped);
  else if (failed > 0) reasons.push(`${failed} of ${run.records.length} requests failed`);
  for (const metric of SLO_METRICS) {
    const limit = targets[metric];
    const value = limit === undefined ? undefined : latency(run, metric, values.sloPercentile);
    if (limit !== undefined && value !== undefined && value > limit)
      reasons.push(`${metric} p${values.sloPercentile} ${value.toFixed(1)} ms > ${limit} ms`);
  }
  return {
    rate,
    passed: reasons.length === 0,
    ...(reasons.length === 0 ? {} : { why: reasons.join(", ") }),
    result: run,
  };
}

/** The probes in the order of their rates, and the answer. */
export function sloReport(result: SloSearchResult<Run>, targets: SloTargets): string {
  const wanted = Object.entries(targets).map(([metric, ms]) => `${metric} ≤ ${ms} ms`);
  const lines = result.probes
    .toSorted((a, b) => a.rate - b.rate)
    .map(
      ({ rate, passed, why, result: run }) =>
        `  ${rate.toFixed(3).padStart(10)}/s  ${String(run.records.length).padStart(6)} requests  ${passed ? "holds" : `fails: ${why}`}`,
    );
  return [`Rates at which ${wanted.join(", ")}:`, ...lines, verdict(result), ""].join("\n");
}

function verdict({ best, limit }: SloSearchResult<Run>): string {
  if (best === undefined && limit === undefined) return "No rate was tried to its end.";
  if (best === undefined) return `No rate that was tried holds; the smallest is ${limit?.rate}/s.`;
  const end =
    limit === undefined ? "none that was tried fails" : `${limit.rate.toFixed(3)}/s fails`;
  return `The largest rate that holds is ${best.rate.toFixed(3)}/s; ${end}.`;
}
