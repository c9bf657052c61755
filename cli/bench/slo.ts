/** Promises about latencies: `ttft:500,tpot:50`, in milliseconds. vLLM's notation of `--goodput`. */

import { KvEngineError } from "../../engine/errors.ts";

export const SLO_METRICS = ["ttft", "tpot", "e2el"] as const;
export type SloMetric = (typeof SLO_METRICS)[number];
export type SloTargets = Readonly<Partial<Record<SloMetric, number>>>;

/** @param texts each with one or more `METRIC:MS`, parted by commas or blanks. Throws `bad_config`. */
export function parseSloTargets(texts: readonly string[], flag: string): SloTargets {
  const targets: Partial<Record<SloMetric, number>> = {};
  for (const part of texts.flatMap((text) => text.split(/[\s,]+/)).filter((one) => one !== "")) {
    const [, name, value] = /^(\w+):(\d+(?:\.\d+)?)$/.exec(part) ?? [];
    const metric = SLO_METRICS.find((one) => one === name);
    if (metric === undefined || !(Number(value) > 0) || targets[metric] !== undefined) {
      throw new KvEngineError("bad_config", `${flag}: \`${part}\` is not allowed`, {
        subject: flag,
        hint: `allowed is METRIC:MILLISECONDS, each METRIC of ${SLO_METRICS.join(", ")} once; an example is \`ttft:500,tpot:50\``,
      });
    }
    targets[metric] = Number(value);
  }
  return targets;
}
