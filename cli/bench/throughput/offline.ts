/** Requests straight into an engine in this process: no HTTP, no JSON, no streams of text. */

import type { EngineClient } from "../../../engine/engine-client.ts";
import { type ErrorData, errorFromData, toKvEngineError } from "../../../engine/errors.ts";
import type { Finish, SamplingParams, TokenEvent } from "../../../engine/request.ts";
import type { OutgoingRequest, Send, SendContext, Sent } from "../load/send.ts";
import type { Chunk, Prompt, RequestRecord } from "../types.ts";

/** What is needed of a session. */
export interface OfflineEngine {
  readonly client: EngineClient;
  /** Token ids that end an answer. */
  readonly endIds: readonly number[];
  encode(prompt: Prompt): Int32Array;
  decode(tokenIds: readonly number[]): string;
}

/** @param sampling of all requests, but for lengths and ends. */
export function offlineSend(engine: OfflineEngine, sampling: SamplingParams): Send {
  let lastId = 0;
  return async (request, context) => {
    const answer = new Collected();
    const promptTokenIds = engine.encode(request.prompt);
    const id = `bench-${++lastId}`;
    const abort = (): void => engine.client.abort(id);
    const sentAt = context.now();
    try {
      const source = engine.client.generate({
        id,
        promptTokenIds,
        sampling: {
          ...sampling,
          maxTokens: request.maxTokens,
          stopTokenIds: request.ignoreEos ? [] : engine.endIds,
        },
        arrivalTime: Date.now(),
        priority: 0,
      });
      context.signal.addEventListener("abort", abort, { once: true });
      if (context.signal.aborted) abort();
      for await (const event of source) answer.take(event, context);
    } catch (thrown) {
      answer.refusal = toKvEngineError(thrown);
    } finally {
      context.signal.removeEventListener("abort", abort);
    }
    const times = { sentAt, endedAt: context.now() };
    const text = engine.decode(answer.tokenIds);
    return sent(request, answer, context, { ...times, text, promptTokens: promptTokenIds.length });
  };
}

/** The events of one request, added up. */
class Collected {
  readonly chunks: Chunk[] = [];
  readonly tokenIds: number[] = [];
  cachedTokens: number | undefined;
  cachedByTier: Readonly<Record<string, number>> | undefined;
  finish: Finish | undefined;
  refusal: ErrorData | undefined;

  take({ tokenIds, cachedTokens, cacheReceipt, finish }: TokenEvent, context: SendContext): void {
    if (tokenIds.length > 0) {
      this.chunks.push({ at: context.now(), numTokens: tokenIds.length });
      for (const id of tokenIds) this.tokenIds.push(id);
      if (this.chunks.length === 1) context.onFirstChunk();
    }
    this.cachedTokens = cachedTokens ?? this.cachedTokens;
    this.cachedByTier = cacheReceipt?.byTier ?? this.cachedByTier;
    this.finish = finish;
  }
}

type Known = Pick<RequestRecord, "sentAt" | "endedAt" | "text" | "promptTokens">;

function sent(
  request: OutgoingRequest,
  { chunks, tokenIds, cachedTokens, cachedByTier, finish, refusal }: Collected,
  { signal }: SendContext,
  known: Known,
): Sent {
  const error = refusal ?? fault(finish, signal);
  const cut = chunks.length > 0 ? "cut" : "error";
  return {
    record: {
      conversation: request.conversation,
      turn: request.turn,
      ...known,
      chunks,
      outputTokens: finish?.usage.completionTokens ?? tokenIds.length,
      countedBy: "usage",
      cachedTokens: finish?.usage.cachedTokens ?? cachedTokens ?? 0,
      ...(cachedByTier === undefined ? {} : { cachedByTier }),
      status: error === undefined ? 200 : errorFromData(error).status,
      outcome: error === undefined ? "ok" : cut,
      ...(error === undefined ? {} : { error: error.message }),
    },
    tokenIds,
  };
}

/** Why an answer is not whole; undefined = it is. */
function fault(finish: Finish | undefined, signal: AbortSignal): ErrorData | undefined {
  if (finish?.error !== undefined) return finish.error;
  if (finish?.reason === "stop" || finish?.reason === "length") return undefined;
  const why = signal.aborted ? `stopped: ${String(signal.reason)}` : "the engine gave no end";
  return { code: "unavailable", message: why };
}
