/** What a trace says of a request: how long what took and how many tokens there were, never a word of what was asked or answered. */

import type { Context } from "hono";
import type { Timing, Usage } from "../../request.ts";
import type { AppContext, Env } from "../deps.ts";
import type { Generation } from "../generation.ts";

export interface RequestTrace {
  readonly requestId: string;
  /** The name in the answer. */
  readonly model: string;
  /** W3C headers of whoever asked. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  readonly n: number;
  readonly numSequences: number;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly usage: Usage;
  /** Of the slowest choice; `undefined` = none has finished. */
  readonly timing: Timing | undefined;
  /** As `epochMs`. */
  readonly arrivedAt: number;
  readonly firstTokenAt: number | undefined;
  readonly endedAt: number;
  readonly outcome: Outcome;
}

/** Whole, given up by its reader, or ended by an error. */
export type Outcome = "end" | "abort" | "error";

/** Spans since the start. */
export interface TraceCounts {
  readonly sent: number;
  /** Those that no collector took. */
  readonly lost: number;
}

/** Where traces go. */
export interface Tracing {
  /** Takes the trace of a request that has ended. Returns at once, and never throws. */
  trace(request: RequestTrace): void;
  readonly counts: TraceCounts;
}

/** Has the request traced once it has ended, where anybody wants that. */
export function traceAtEnd(context: AppContext, c: Context<Env>, generation: Generation): void {
  const { tracing, model } = context.deps;
  if (tracing === undefined) return;
  const { req } = c;
  const about = {
    requestId: c.get("requestId"),
    model: model.name,
    traceparent: req.header("traceparent"),
    tracestate: req.header("tracestate"),
  };
  generation.onEnd(() => tracing.trace({ ...about, ...factsOf(generation) }));
}

function factsOf(
  generation: Generation,
): Omit<RequestTrace, "requestId" | "model" | "traceparent" | "tracestate"> {
  const { n, choices, timing, times, outcome } = generation;
  const { maxTokens, temperature, topP } = generation.sampling;
  return {
    ...{ n, numSequences: choices.length, maxTokens, temperature, topP },
    ...{ usage: generation.usage(), timing, outcome },
    ...times,
  };
}
