/** How busy the server is, for load balancers: GET /load, and the header that ORCA defines, in vLLM's words. */

import type { Context } from "hono";
import type { EngineStats } from "../request.ts";
import type { AppContext, Env } from "./deps.ts";

/** Sequences that run or wait. */
export function load({ deps }: AppContext, c: Context<Env>): Response {
  const { running, waiting } = deps.client.stats();
  return c.json({ server_load: running + waiting });
}

/** Adds the header where it was asked for, with `TEXT` or `JSON`. */
export function reportLoad({ deps }: AppContext, c: Context<Env>): void {
  const report = orcaReport(c.req.header("endpoint-load-metrics-format"), deps.client.stats());
  if (report !== undefined) c.header("endpoint-load-metrics", report);
}

function orcaReport(
  format: string | undefined,
  { usedBlocks, totalBlocks, waiting }: EngineStats,
): string | undefined {
  const metrics = {
    kv_cache_usage_perc: totalBlocks === 0 ? 0 : usedBlocks / totalBlocks,
    num_requests_waiting: waiting,
  };
  switch (format?.toLowerCase()) {
    case "json":
      return `JSON ${JSON.stringify({ named_metrics: metrics })}`;
    case "text":
      return `TEXT ${Object.entries(metrics)
        .map(([name, value]) => `named_metrics.${name}=${value}`)
        .join(", ")}`;
    default:
      return undefined;
  }
}
