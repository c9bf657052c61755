/** What a world of the tests is made of. */

import type { GroupSpec } from "../../engine/cache/kv-cache.ts";
import type { NamedConnector } from "../../engine/connectors/connector-host.ts";
import type { LogLine } from "../../engine/connectors/connector-log.ts";
import type { JoinOptions } from "../../engine/connectors/join-scheduler.ts";
import type { KvConnectorsOptions } from "../../engine/connectors/kv-connectors-options.ts";
import type { ExplainerOptions } from "../../engine/explain/explainer.ts";
import type { RequestLimits } from "../../engine/request-limits.ts";
import type { SchedulerOptions } from "../../engine/scheduler/scheduler.ts";

export const FULL: GroupSpec = { kind: "full", window: 0 };
export const STATE: GroupSpec = { kind: "state", window: 0 };
export const windowOf = (window: number): GroupSpec => ({ kind: "window", window });

export interface WorldOptions extends Partial<
  Pick<
    SchedulerOptions,
    | "schedulingPolicy"
    | "tpotSlo"
    | "enablePrefixCaching"
    | "speculative"
    | "speculativeTokens"
    | "speculativeNgram"
  >
> {
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxPrefillTokens?: number | undefined;
  readonly maxSamples?: number;
  readonly blockSize: number;
  /** The null block left out. */
  readonly numBlocks: number;
  readonly groups?: readonly GroupSpec[];
  readonly maxModelLen?: number;
  readonly vocabSize?: number;
  readonly connectors?: WorldConnectors;
  readonly firstStepId?: number;
  /** Requests are remembered, to be explained. */
  readonly explains?: Omit<ExplainerOptions, "now" | "connectors">;
}

/** Connectors in a world, and what they have to work with. */
export interface WorldConnectors {
  readonly list: readonly NamedConnector[];
  readonly hostPages: number;
  readonly options?: Partial<JoinOptions>;
  /** A hook that takes longer disables its connector; never when left out. */
  readonly slowHookMs?: number;
  /** Lines of the connectors' log. */
  readonly log?: LogLine;
  /** What a token costs to compute, in microseconds of the runner's: for decisions between that and loads. */
  readonly microsPerToken?: number;
  /** What tiers have put off goes on, all of it or (when nothing else does) one piece; answers whether there was any. */
  readonly turn?: (isIdle: boolean) => boolean;
}

/** Milliseconds of a world are commits. */
export const CONNECTOR_OPTIONS: KvConnectorsOptions = {
  lookupTimeoutMs: 20,
  loadTimeoutMs: 40,
  recallMs: 10,
  holdTtlMs: 60,
  maxHeld: 0,
  maxFlying: 8,
};

/** Scheduler options of a world, and what a runner for it needs. */
export function schedulerOptions(options: WorldOptions): SchedulerOptions {
  const { maxNumSeqs, maxNumBatchedTokens, maxPrefillTokens, blockSize, numBlocks } = options;
  const limits: RequestLimits = {
    maxModelLen: options.maxModelLen ?? 1000,
    vocabSize: options.vocabSize ?? 50,
    blockSize,
    groups: options.groups ?? [FULL],
    maxInFlightTokens: 2 * maxNumBatchedTokens,
    numBlocks,
  };
  return {
    maxNumSeqs,
    maxNumBatchedTokens,
    maxSamples: options.maxSamples ?? maxNumSeqs + 32,
    ...(maxPrefillTokens === undefined ? {} : { maxPrefillTokens }),
    schedulingPolicy: options.schedulingPolicy ?? "fcfs",
    tpotSlo: options.tpotSlo ?? 0,
    enablePrefixCaching: options.enablePrefixCaching ?? true,
    speculative: options.speculative ?? "none",
    speculativeTokens: options.speculativeTokens ?? 4,
    speculativeNgram: options.speculativeNgram ?? [1, 3],
    limits,
  };
}
