/** What is sent for a request, with each server's own way to say how many tokens a chunk has. */

import type { OutgoingRequest } from "../load/send.ts";
import type { ServerKind } from "./target.ts";
import type { JsonObject } from "./json.ts";

export interface BodyOptions {
  readonly model: string;
  readonly kind: ServerKind;
  /** Ask for the count of tokens in each chunk, where the server is known to have it. */
  readonly countChunks: boolean;
  /** Fields of the user's, which go over ours. */
  readonly extra: JsonObject;
}

/** Path under `/v1` and JSON. */
export interface RequestBody {
  readonly path: string;
  readonly json: string;
}

export function requestBody(request: OutgoingRequest, options: BodyOptions): RequestBody {
  const { prompt, maxTokens, ignoreEos } = request;
  const counts = options.countChunks ? COUNT_FIELDS[options.kind] : { fields: {}, stream: {} };
  const common = {
    model: options.model,
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true, ...counts.stream },
    // A server that does not know the field may refuse it, so it is sent only where it means something.
    ...(ignoreEos ? { ignore_eos: true } : {}),
    ...counts.fields,
    ...options.extra,
  };
  return prompt.kind === "chat"
    ? {
        path: "/chat/completions",
        json: JSON.stringify({ messages: prompt.messages, ...common }),
      }
    : {
        path: "/completions",
        json: JSON.stringify({
          prompt: prompt.kind === "text" ? prompt.text : prompt.tokenIds,
          ...common,
        }),
      };
}

interface CountFields {
  readonly fields: JsonObject;
  readonly stream: JsonObject;
}

const CONTINUOUS: CountFields = { fields: {}, stream: { continuous_usage_stats: true } };

/** vLLM's `stream_options.continuous_usage_stats`; llama-server puts its timings into each chunk instead. */
const COUNT_FIELDS: Readonly<Record<ServerKind, CountFields>> = {
  kvengine: CONTINUOUS,
  vllm: CONTINUOUS,
  sglang: { fields: { return_cached_tokens_details: true }, stream: CONTINUOUS.stream },
  "llama-server": { fields: { timings_per_token: true }, stream: {} },
  unknown: { fields: {}, stream: {} },
};
