/** Parts of OpenAI's answers that both endpoints share. */

import type { Usage } from "../request.ts";
import { receiptJson, type ReceiptJson } from "./cache-receipt.ts";
import { type ChoiceFinish, noTokens } from "./choice.ts";
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

/** The whole of every choice. */
export async function collect(generation: Generation): Promise<Answer[]> {
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

/** The fields of a stream's last frame, behind its `choices`; empty = there is none. */
export function lastFields(generation: Generation, includeUsage: boolean): string {
  const usage = includeUsage ? { usage: usageJson(generation.usage()) } : {};
  const fields = JSON.stringify({ ...usage, ...transferJson(generation) }).slice(1, -1);
  return fields === "" ? "" : `,${fields}`;
}

export interface UsageJson {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number } & Partial<ReceiptJson>;
}

export function usageJson(usage: Usage): UsageJson {
  const { cacheReceipt } = usage;
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: {
      cached_tokens: usage.cachedTokens,
      ...(cacheReceipt === undefined ? {} : receiptJson(cacheReceipt)),
    },
  };
}
