/** One prompt for a running server: when its first token came, and what the server says of where the prompt's KV came from. */

import { z } from "zod";
import { KvEngineError } from "../../engine/errors.ts";
import { EventReader } from "../bench/http/event-reader.ts";

export interface Asked {
  /** From the request to its first token, in milliseconds. */
  readonly firstTokenMs: number;
  readonly text: string;
  readonly promptTokens: number;
  /** Prompt tokens that were not computed, by tier. */
  readonly cached: Readonly<Record<string, number>>;
  /** The server's receipt: how long it waited for tiers, and what computing would have taken longer. */
  readonly loadMs: number;
  readonly savedMs: number;
}

const count = z.number().nonnegative();
const chunkSchema = z.object({
  choices: z.array(z.object({ text: z.string() })),
  usage: z
    .object({
      prompt_tokens: count,
      prompt_tokens_details: z
        .object({
          cached_tokens_details: z.record(z.string(), count).default({}),
          load_ms: count.default(0),
          saved_ms: count.default(0),
        })
        .nullish(),
    })
    .nullish(),
});
type Usage = NonNullable<z.infer<typeof chunkSchema>["usage"]>;

/** Rejects with `unavailable` for an answer that is none of a completion. */
export async function ask(
  baseUrl: string,
  prompt: readonly number[],
  maxTokens: number,
  signal: AbortSignal,
): Promise<Asked> {
  const sent = performance.now();
  const response = await fetch(`${baseUrl}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      prompt,
      max_tokens: maxTokens,
      ignore_eos: true,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    }),
    signal,
  });
  if (!response.ok || response.body === null)
    throw unexpected(`${response.status} ${await response.text()}`);
  let firstAt: number | undefined;
  let text = "";
  let usage: Usage | undefined;
  const events = new EventReader((data) => {
    if (data === "[DONE]") return;
    const chunk = chunkSchema.safeParse(JSON.parse(data));
    if (!chunk.success) throw unexpected(data);
    for (const choice of chunk.data.choices) {
      firstAt ??= performance.now();
      text += choice.text;
    }
    usage = chunk.data.usage ?? usage;
  });
  for await (const bytes of response.body) events.push(bytes);
  if (firstAt === undefined || usage === undefined) throw unexpected("no token, or no usage");
  const details = usage.prompt_tokens_details;
  return {
    firstTokenMs: firstAt - sent,
    text,
    promptTokens: usage.prompt_tokens,
    cached: details?.cached_tokens_details ?? {},
    loadMs: details?.load_ms ?? 0,
    savedMs: details?.saved_ms ?? 0,
  };
}

function unexpected(what: string): KvEngineError {
  return new KvEngineError("unavailable", `the server's answer is none of a completion: ${what}`);
}
