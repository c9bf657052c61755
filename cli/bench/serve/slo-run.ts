/** `--slo-search`: runs at one rate after the other, and what they found. */

import type { OptionValues } from "../../../engine/config.ts";
import { SATURATION_RULE, type SaturationRule } from "../load/saturation.ts";
import { type Probe, searchRate, type SloSearchResult } from "../load/slo-search.ts";
import { DEFAULT_SUMMARY, summarize } from "../metrics/summary.ts";
import type { RateSearch } from "../report/report.ts";
import { SLO_METRICS, type SloTargets } from "../slo.ts";
import type { Run } from "../types.ts";

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
  { targets, values }: Pick<SloInput, "targets" | "values">,
): Probe<Run> {
  const failed = run.records.filter(({ outcome }) => outcome !== "ok").length;
  const percent = values.sloPercentile;
  const { latencies } = summarize(run, { ...DEFAULT_SUMMARY, percentiles: [percent] });
  const reasons: string[] = [];
  if (run.stopped !== undefined && run.stopped !== "duration") reasons.push(run.stopped);
  else if (failed > 0) reasons.push(`${failed} of ${run.records.length} requests failed`);
  for (const metric of SLO_METRICS) {
    const limit = targets[metric];
    const value = latencies[metric]?.percentiles[percent];
    if (limit !== undefined && value !== undefined && value > limit)
      reasons.push(`${metric} p${percent} ${value.toFixed(1)} ms > ${limit} ms`);
  }
  return {
    rate,
    passed: reasons.length === 0,
    ...(reasons.length === 0 ? {} : { why: reasons.join(", ") }),
    result: run,
  };
}

/** What was found, for a report. */
export function rateSearch(
  { probes, best, limit }: SloSearchResult<Run>,
  targets: SloTargets,
  percentile: number,
): RateSearch {
  return {
    targets,
    percentile,
    probes: probes.map(({ rate, passed, why, result }) => ({
      rate,
      passed,
      requests: result.records.length,
      ...(why === undefined ? {} : { why }),
    })),
    ...(best === undefined ? {} : { best: best.rate }),
    ...(limit === undefined ? {} : { limit: limit.rate }),
  };
}
