/** Options → how the workload is sent. */

import type { OptionValues } from "../../engine/config.ts";
import { KvEngineError } from "../../engine/errors.ts";
import type { Ramp } from "./load/ramp.ts";
import type { LoadPlan } from "./types.ts";

type PlanValues = Pick<
  OptionValues,
  | "requestRate"
  | "burstiness"
  | "maxConcurrency"
  | "duration"
  | "seed"
  | "rampUpStrategy"
  | "rampUpStartRps"
  | "rampUpEndRps"
  | "rampUpStartConcurrency"
  | "rampUpEndConcurrency"
>;

/**
 * Throws `bad_config` for options that contradict each other.
 * @param clients conversations at a time that the workload stands for, where no limit is given.
 */
export function loadPlan(values: PlanValues, clients: number = Number.POSITIVE_INFINITY): LoadPlan {
  const rate = rampOf(values, "rps", values.rampUpStartRps, values.rampUpEndRps);
  const concurrency = rampOf(
    values,
    "concurrency",
    values.rampUpStartConcurrency,
    values.rampUpEndConcurrency,
  );
  const given = Number.isFinite(values.requestRate);
  if (rate !== undefined && given)
    throw conflict(
      "--request-rate",
      "the rate is that of --ramp-up-start-rps to --ramp-up-end-rps",
    );
  if (concurrency !== undefined && (given || rate !== undefined))
    throw conflict("--ramp-up-start-concurrency", "concurrency grows only where there is no rate");
  if (values.rampUpStrategy !== "none" && rate === undefined && concurrency === undefined) {
    throw conflict(
      "--ramp-up-strategy",
      "it needs --ramp-up-start-rps and --ramp-up-end-rps, or the same with -concurrency",
    );
  }
  const ramp = rate ?? concurrency;
  return {
    requestRate: rate?.from ?? values.requestRate,
    burstiness: values.burstiness,
    maxConcurrency: values.maxConcurrency || clients,
    ...(ramp === undefined ? {} : { ramp }),
    durationMs: (values.duration || Number.POSITIVE_INFINITY) * 1000,
    seed: values.seed,
  };
}

/** Undefined where neither end is given. */
function rampOf(
  { rampUpStrategy }: PlanValues,
  unit: "rps" | "concurrency",
  from: number,
  to: number,
): Ramp | undefined {
  if (from === 0 && to === 0) return undefined;
  if (from === 0 || to === 0)
    throw conflict(`--ramp-up-${from === 0 ? "start" : "end"}-${unit}`, "a ramp has two ends");
  return { shape: rampUpStrategy === "none" ? "linear" : rampUpStrategy, from, to };
}

function conflict(flag: string, why: string): KvEngineError {
  return new KvEngineError("bad_config", `${flag}: ${why}`, {
    subject: flag,
    hint: "`kvengine bench serve --help` lists the flags of the load",
  });
}
