/** How many tokens a server says there were, in the dialects of the servers that say it. */

import { asCount, asObject, type JsonObject } from "./json.ts";

export interface TokenUsage {
  readonly promptTokens: number | undefined;
  readonly outputTokens: number | undefined;
  readonly cachedTokens: number | undefined;
  readonly cachedByTier: Readonly<Record<string, number>> | undefined;
}

const FIELDS = ["prompt_tokens", "completion_tokens"] as const;

/** `usage` of a chunk; a text = what is wrong with it; undefined = the chunk has none. */
export function readUsage(chunk: JsonObject): TokenUsage | string | undefined {
  const { usage } = chunk;
  if (usage === undefined || usage === null) return undefined;
  const fields = asObject(usage);
  if (fields === undefined) return `usage is ${JSON.stringify(usage)}, not an object`;
  for (const name of FIELDS) {
    const value = fields[name];
    if (value !== undefined && value !== null && asCount(value) === undefined)
      return `usage.${name} is ${JSON.stringify(value)}, not a number of tokens`;
  }
  const details = asObject(fields["prompt_tokens_details"]);
  return {
    promptTokens: asCount(fields["prompt_tokens"]),
    outputTokens: asCount(fields["completion_tokens"]),
    cachedTokens: asCount(details?.["cached_tokens"]),
    cachedByTier: readTiers(details?.["cached_tokens_details"]),
  };
}

/** llama-server's own counts, in every chunk where `timings_per_token` asked for them. */
export function readTimings(chunk: JsonObject): Partial<TokenUsage> {
  const timings = asObject(chunk["timings"]);
  return {
    outputTokens: asCount(timings?.["predicted_n"]),
    cachedTokens: asCount(timings?.["cache_n"]),
  };
}

/** SGLang's extension, where `return_cached_tokens_details` asked for it. */
export function readSglangTiers(chunk: JsonObject): TokenUsage["cachedByTier"] {
  return readTiers(asObject(chunk["sglext"])?.["cached_tokens_details"]);
}

/** `device`, `host` and `disk`; SGLang calls the last one `storage`. */
function readTiers(value: unknown): TokenUsage["cachedByTier"] {
  const fields = asObject(value);
  if (fields === undefined) return undefined;
  const tiers: Record<string, number> = {};
  for (const [name, tokens] of Object.entries(fields)) {
    const count = asCount(tokens);
    if (count !== undefined) tiers[name === "storage" ? "disk" : name] = count;
  }
  return tiers;
}
