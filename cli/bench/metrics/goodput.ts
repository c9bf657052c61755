/** Goodput: requests that meet every limit, as `--goodput ttft:200 tpot:50 e2el:5000` sets them. */

import { KvEngineError } from "../../../engine/errors.ts";
import type { RequestTimes } from "./request-times.ts";

const LIMITED = ["ttft", "tpot", "e2el"] as const;

/** Milliseconds. */
export type GoodputLimits = Readonly<Partial<Record<(typeof LIMITED)[number], number>>>;

/** `ttft:200 tpot:50`, parted by blanks or commas or as several texts. Throws `bad_config`. No text sets no limit. */
export function parseGoodput(texts: readonly string[]): GoodputLimits {
  const limits: Partial<Record<(typeof LIMITED)[number], number>> = {};
  for (const part of texts.flatMap((text) => text.split(/[\s,]+/)).filter((word) => word !== "")) {
    const [name, value = "", ...rest] = part.split(":");
    const known = LIMITED.find((one) => one === name);
    const milliseconds = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
    if (known === undefined || Number.isNaN(milliseconds) || rest.length > 0)
      throw refusal(`\`${part}\` is no limit`);
    if (limits[known] !== undefined) throw refusal(`${known} is limited twice`);
    limits[known] = milliseconds;
  }
  return limits;
}

function refusal(what: string): KvEngineError {
  return new KvEngineError("bad_config", `--goodput: ${what}`, {
    subject: "--goodput",
    hint: "limits are written as ttft:MS, tpot:MS or e2el:MS with blanks between: --goodput 'ttft:200 tpot:50'",
  });
}

/** A time that a request does not have breaks no limit: one token has no TPOT (vLLM takes it as 0). */
export function isGood(times: RequestTimes, limits: GoodputLimits): boolean {
  return LIMITED.every((name) => (times[name] ?? 0) <= (limits[name] ?? Number.POSITIVE_INFINITY));
}
