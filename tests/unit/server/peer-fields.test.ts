/**
 * Body fields of other servers, by the rows of `research/peers.md` 1.2: each is honoured, refused by its name, or named in the header
 * `x-kvengine-warnings`; none is read past in silence. That they do what they say is shown where they are: `ranges`, `sampling-fields`,
 * `logprobs`, `chat-fields`, `completions`, `stream`, and with a model in `tests/native/sampling` and `tests/e2e`.
 */

import { describe, expect, test } from "bun:test";
import { json, refusal, roomy, USER } from "./test-app.ts";

type Verdict = "honoured" | "refused" | "warned";

/** Fields of both endpoints, with a value that asks for something. */
const BOTH: Readonly<Record<string, readonly [verdict: Verdict, value: unknown]>> = {
  n: ["honoured", 2],
  seed: ["honoured", 7],
  temperature: ["honoured", 0.5],
  top_p: ["honoured", 0.5],
  top_k: ["honoured", 5],
  min_p: ["honoured", 0.1],
  repetition_penalty: ["honoured", 1.1],
  presence_penalty: ["honoured", 0.5],
  frequency_penalty: ["honoured", 0.5],
  logit_bias: ["honoured", { "65": 5 }],
  prompt_logprobs: ["honoured", 1],
  stop: ["honoured", ["x"]],
  stop_token_ids: ["honoured", [65]],
  min_tokens: ["honoured", 1],
  max_tokens: ["honoured", 5],
  ignore_eos: ["honoured", true],
  bad_words: ["honoured", ["x"]],
  allowed_token_ids: ["honoured", [72, 101]],
  cache_salt: ["honoured", "s"],
  session_id: ["honoured", "s"],
  cache_control: ["honoured", { type: "ephemeral" }],
  return_token_ids: ["honoured", true],
  return_timing: ["honoured", true],
  kv_transfer_params: ["honoured", { remote_host: "h" }],
  // The server that these tests ask does not schedule by priority.
  priority: ["refused", 1],
  use_beam_search: ["refused", true],
  length_penalty: ["refused", 2],
  early_stopping: ["refused", true],
  include_stop_str_in_output: ["refused", true],
  skip_special_tokens: ["refused", false],
  return_tokens_as_token_ids: ["refused", true],
  truncate_prompt_tokens: ["refused", 5],
  truncation_side: ["refused", "left"],
  logits_processors: ["refused", ["x"]],
  logprob_token_ids: ["refused", [1]],
  stop_regex: ["refused", "x"],
  thinking_token_budget: ["refused", 5],
  repetition_detection: ["refused", true],
  return_prompt_text: ["refused", true],
  stream_interval: ["refused", 5],
  vllm_xargs: ["refused", {}],
  n_probs: ["refused", 5],
  n_cmpl: ["refused", 2],
  post_sampling_probs: ["refused", true],
  typical_p: ["refused", 0.5],
  top_n_sigma: ["refused", 1],
  xtc_probability: ["refused", 0.5],
  dry_multiplier: ["refused", 0.5],
  mirostat: ["refused", 2],
  dynatemp_range: ["refused", 0.5],
  return_progress: ["refused", true],
  timings_per_token: ["refused", true],
  sse_ping_interval: ["refused", 5],
  t_max_predict_ms: ["refused", 5],
  response_fields: ["refused", ["a"]],
  lora: ["refused", []],
  n_cache_reuse: ["refused", 5],
  id_slot: ["refused", 1],
  conv_id: ["refused", "c"],
  reasoning_budget: ["refused", 5],
  return_cached_tokens_details: ["refused", true],
  session_params: ["refused", {}],
  extra_key: ["refused", "k"],
  return_perf_metrics: ["refused", true],
  conversation_id: ["refused", "c"],
  min_new_tokens: ["refused", 5],
  user: ["warned", "u"],
  metadata: ["warned", { a: "b" }],
  store: ["warned", true],
  service_tier: ["warned", "flex"],
  safety_identifier: ["warned", "s"],
  prompt_cache_key: ["honoured", "k"],
  prompt_cache_retention: ["warned", "24h"],
  prompt_cache_options: ["warned", { ttl: "30m" }],
  prediction: ["warned", { type: "content", content: "x" }],
  cache_prompt: ["warned", true],
  request_id: ["warned", "r"],
  spaces_between_special_tokens: ["warned", true],
};

const CHAT: typeof BOTH = {
  ...BOTH,
  max_completion_tokens: ["honoured", 5],
  logprobs: ["honoured", true],
  add_generation_prompt: ["honoured", false],
  add_special_tokens: ["honoured", true],
  parallel_tool_calls: ["honoured", false],
  include_reasoning: ["honoured", false],
  top_logprobs: ["refused", 3],
  continue_final_message: ["refused", "yes"],
  best_of: ["refused", 2],
  echo: ["refused", true],
  suffix: ["refused", "x"],
  functions: ["refused", [{ name: "f" }]],
  function_call: ["refused", { name: "f" }],
  modalities: ["refused", ["audio"]],
  audio: ["refused", { voice: "v" }],
  verbosity: ["refused", "low"],
  web_search_options: ["refused", {}],
  chat_template: ["refused", "{{ x }}"],
  documents: ["refused", [{}]],
  // The template of these tests reads neither.
  reasoning_effort: ["warned", "low"],
  chat_template_kwargs: ["warned", { unread: 1 }],
};

const COMPLETIONS: typeof BOTH = {
  ...BOTH,
  echo: ["honoured", true],
  logprobs: ["honoured", 2],
  best_of: ["refused", 2],
  suffix: ["refused", "x"],
  add_special_tokens: ["refused", false],
  max_completion_tokens: ["refused", 5],
  top_logprobs: ["refused", 2],
};

const ENDPOINTS = [
  ["/v1/chat/completions", { messages: USER }, CHAT],
  ["/v1/completions", { prompt: "hi" }, COMPLETIONS],
] as const;

describe.each(ENDPOINTS)("%s", (path, body, table) => {
  test.each(Object.entries(table))("%s", async (name, [verdict, value]) => {
    const response = await roomy().post(path, { ...body, [name]: value });
    if (verdict === "refused") {
      const { status, param } = await refusal(response);
      expect([status, param?.split(/[.[]/)[0]]).toEqual([400, name]);
      return;
    }
    expect(await json(response)).toHaveProperty("choices");
    const warned = response.headers.get("x-kvengine-warnings") ?? "";
    expect(warned.includes(name)).toBe(verdict === "warned");
  });

  test("usage in a stream, at its end and all along", async () => {
    for (const option of ["include_usage", "continuous_usage_stats"]) {
      const stream_options = { [option]: true };
      const response = await roomy().post(path, { ...body, stream: true, stream_options });
      expect(await response.text()).toContain('"usage":{"prompt_tokens":');
      expect(response.headers.get("x-kvengine-warnings")).toBeNull();
    }
  });
});

describe("how busy the server is", () => {
  test("is told to whoever asks in ORCA's words", async () => {
    const { post, client } = roomy();
    client.report({ usedBlocks: 16, totalBlocks: 64, waiting: 3 });
    const told = async (format: string, body = {}): Promise<string | null> => {
      const headers = { "endpoint-load-metrics-format": format };
      const response = await post("/v1/completions", { prompt: "hi", ...body }, headers);
      await response.text();
      return response.headers.get("endpoint-load-metrics");
    };
    const json = 'JSON {"named_metrics":{"kv_cache_usage_perc":0.25,"num_requests_waiting":3}}';
    expect(await told("JSON")).toBe(json);
    expect(await told("json", { stream: true })).toBe(json);
    expect(await told("TEXT")).toBe(
      "TEXT named_metrics.kv_cache_usage_perc=0.25, named_metrics.num_requests_waiting=3",
    );
    expect(await told("bin")).toBeNull();
  });

  test("is told by /load, without a key", async () => {
    const { app, client } = roomy({ apiKeys: [{ name: "a", key: "k" }] });
    client.report({ running: 2, waiting: 3 });
    expect(await json(app.request("/load"))).toEqual({ server_load: 5 });
  });
});
