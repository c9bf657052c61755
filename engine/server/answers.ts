/** Parts of OpenAI's answers that several endpoints share. */

import type { Timing, Usage } from "../request.ts";
import { receiptJson, type ReceiptJson } from "./cache-receipt.ts";
import { type ChoiceDelta, type ChoiceFinish, noTokens } from "./choice.ts";
import type { Generation } from "./generation.ts";
import type { Tokens } from "./logprobs.ts";

/** What every object of one answer begins with. */
export interface Head {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly model: string;
  readonly fingerprint: string;
}

export interface Answer extends Tokens {
  readonly text: string;
  readonly finish: ChoiceFinish;
}

/** The whole of every choice. `see` is shown every delta. */
export async function collect(
  generation: Generation,
  see: (delta: ChoiceDelta) => void = () => {},
): Promise<Answer[]> {
  const parts = generation.choices.map(() => ({
    text: "",
    ...noTokens(),
    finish: { reason: "stop", stopReason: null } as ChoiceFinish,
  }));
  while (!generation.ended) {
    const delta = generation.take();
    if (delta === undefined) {
      await new Promise<void>((resolve) => generation.onNews(resolve));
      continue;
    }
    see(delta);
    const part = parts[delta.index] as (typeof parts)[number];
    part.text += delta.text;
    part.tokenIds.push(...delta.tokens.tokenIds);
    part.logprobs.push(...delta.tokens.logprobs);
    part.tops.push(...delta.tokens.tops);
    part.finish = delta.finish ?? part.finish;
  }
  return parts;
}

/** Fields of an answer that KV connectors have something for. */
export function transferJson({ transferParams }: Generation): {
  readonly kv_transfer_params?: Readonly<Record<string, unknown>>;
} {
  return transferParams === undefined ? {} : { kv_transfer_params: transferParams };
}

/** What of an answer's end was asked for. */
interface LastFields {
  readonly includeUsage: boolean;
  readonly returnTiming: boolean;
}

/** The fields of a stream's last frame, behind its `choices`; empty = there is none. */
export function lastFields(
  generation: Generation,
  { includeUsage, returnTiming }: LastFields,
  reasoningTokens?: number,
): string {
  const usage = includeUsage ? { usage: usageJson(generation.usage(), reasoningTokens) } : {};
  const timing = returnTiming ? timingField(generation) : {};
  const fields = JSON.stringify({ ...usage, ...timing, ...transferJson(generation) }).slice(1, -1);
  return fields === "" ? "" : `,${fields}`;
}

export interface UsageJson {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number } & Partial<ReceiptJson>;
  readonly completion_tokens_details?: { readonly reasoning_tokens: number };
}

/** `reasoningTokens`: where answers may have reasoning. */
export function usageJson(usage: Usage, reasoningTokens?: number): UsageJson {
  const { cacheReceipt } = usage;
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: {
      cached_tokens: usage.cachedTokens,
      ...(cacheReceipt === undefined ? {} : receiptJson(cacheReceipt)),
    },
    ...(reasoningTokens === undefined
      ? {}
      : { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
  };
}

/** Milliseconds, as `Timing` has them. */
interface TimingJson {
  readonly queue_ms: number;
  readonly prefill_ms: number;
  readonly decode_ms: number;
}

function timingJson({ queued, prefill, decode }: Timing): TimingJson {
  return {
    queue_ms: roundedMs(queued),
    prefill_ms: roundedMs(prefill),
    decode_ms: roundedMs(decode),
  };
}

/** For the body of an answer that was asked for it. */
export function timingField({ timing }: Generation): { readonly timing?: TimingJson } {
  return timing === undefined ? {} : { timing: timingJson(timing) };
}

/** The header `x-kvengine-timing`, in the notation of Server-Timing; milliseconds. */
export function timingHeader(timing: Timing): string {
  const { queue_ms, prefill_ms, decode_ms } = timingJson(timing);
  return `queue;dur=${queue_ms}, prefill;dur=${prefill_ms}, decode;dur=${decode_ms}`;
}

function roundedMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
