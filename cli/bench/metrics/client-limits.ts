/** Whether the client measured the server or itself. */

import type { Run } from "../types.ts";
import type { Distribution } from "./distribution.ts";

/** The bench runs on one thread: past this share of a core its own work delays what it reads. */
const BUSY = 0.85;
/** A late timer is a late time stamp: more than this share of a median is too much. */
const LAG_SHARE = 0.1;
/** What an idle event loop shows. Milliseconds. */
const USUAL_LAG_MS = 2;

export interface ClientLoad {
  /** Cores' worth of time that the client's process used over the run. */
  readonly cores: number;
  readonly lagP99Ms: number;
  readonly lagMaxMs: number;
  /** Why the figures may be the client's own; empty = they are the server's. */
  readonly warnings: readonly string[];
}

export function clientLoad(
  run: Pick<Run, "client" | "durationMs">,
  times: { readonly ttft?: Distribution | undefined; readonly tpot?: Distribution | undefined },
): ClientLoad {
  const { cpuSeconds, lagP99Ms, lagMaxMs } = run.client;
  const cores = run.durationMs > 0 ? cpuSeconds / (run.durationMs / 1000) : 0;
  const warnings: string[] = [];
  if (cores > BUSY) {
    warnings.push(
      `the client used ${cores.toFixed(2)} of a core: it may be the bottleneck; ask for less at a time`,
    );
  }
  for (const [name, times_] of [
    ["TTFT", times.ttft],
    ["TPOT", times.tpot],
  ] as const) {
    if (times_ === undefined || lagP99Ms <= USUAL_LAG_MS) continue;
    if (lagP99Ms > LAG_SHARE * times_.median) {
      warnings.push(
        `the client's timers were up to ${lagP99Ms.toFixed(1)} ms late (p99), more than a tenth of the median ${name}: times may be the client's own`,
      );
    }
  }
  return { cores, lagP99Ms, lagMaxMs, warnings };
}
