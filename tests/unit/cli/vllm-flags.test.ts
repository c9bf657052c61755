/** Flags of `vllm serve`, by the rows of `research/peers.md` 1.8, 5.4 and 5.6: each is ours, is turned into ours, or is refused by name. */

import { describe, expect, test } from "bun:test";
import { parseCommandLine } from "../../../cli/flags.ts";
import { resolveConfig } from "../../../engine/config-values.ts";
import type { OptionValues } from "../../../engine/config.ts";
import { thrownBy } from "../../support/thrown.ts";

const MODEL = { name: "model", help: "a model", required: true };

function valuesOf(...args: string[]): OptionValues {
  const { flags } = parseCommandLine("serve", ["m", ...args], [MODEL]);
  return resolveConfig("serve", { flags, env: {} }).values;
}

const TAKEN: readonly (readonly [args: string, values: Partial<OptionValues>])[] = [
  ["--gpu-memory-utilization 0.92", { gpuMemoryUtilization: 0.92 }],
  ["--kv-cache-memory-bytes 1048576", { kvCacheMemory: 1_048_576 }],
  ["--num-gpu-blocks-override 100", { numGpuBlocksOverride: 100 }],
  ["--kv-cache-dtype auto", { kvCacheDtype: "auto" }],
  ["--block-size 32", { blockSize: 32 }],
  ["--no-enable-prefix-caching", { enablePrefixCaching: false }],
  ["--enable-prefix-caching", { enablePrefixCaching: true }],
  ["--prefix-caching-hash-algo sha256_cbor", {}],
  [
    "--kv-offloading-size 4 --kv-offloading-backend native",
    { kvConnector: ["cpu-offload"], kvOffloadSize: 4 * 2 ** 30 },
  ],
  ["--max-num-seqs 8 --max-num-batched-tokens 64", { maxNumSeqs: 8, maxNumBatchedTokens: 64 }],
  ["--max_num_seqs 8 --max_model_len=100", { maxNumSeqs: 8, maxModelLen: 100 }],
  ["--max-model-len auto", { maxModelLen: 0 }],
  ["--max-model-len -1", { maxModelLen: 0 }],
  ["--max-model-len 8k", { maxModelLen: 8000 }],
  ["--max-model-len 8K", { maxModelLen: 8192 }],
  ["--max-model-len 1.5k", { maxModelLen: 1500 }],
  ["--enable-chunked-prefill --async-scheduling", {}],
  ["--scheduling-policy priority", { schedulingPolicy: "priority" }],
  ["--stream-interval 1", {}],
  ["--spec-method ngram --spec-tokens 4", { speculative: "ngram", speculativeTokens: 4 }],
  [
    '--speculative-config {"method":"ngram","num_speculative_tokens":3,"prompt_lookup_max":5,"prompt_lookup_min":2}',
    { speculative: "ngram", speculativeTokens: 3, speculativeNgram: [2, 5] },
  ],
  [
    '--speculative-config {"method":"ngram","prompt_lookup_max":3}',
    { speculative: "ngram", speculativeTokens: 8, speculativeNgram: [3, 3] },
  ],
  ["--host 0.0.0.0 --port 8000", { host: "0.0.0.0", port: 8000 }],
  ["--uds /tmp/s", { uds: "/tmp/s" }],
  ["--api-key a b", { apiKey: ["a", "b"] }],
  ["--served-model-name a b --port 1", { servedModelName: ["a", "b"], port: 1 }],
  ["--ssl-certfile c --ssl-keyfile k", { sslCertfile: "c", sslKeyfile: "k" }],
  ["--enable-ssl-refresh", { enableSslRefresh: true }],
  ["--root-path /llm --shutdown-timeout 5", { rootPath: "/llm", shutdownTimeout: 5 }],
  [
    "--disable-access-log-for-endpoints /health,/metrics,/ping",
    { disableAccessLogForEndpoints: ["/health,/metrics,/ping"] },
  ],
  ["--enable-request-id-headers --enable-prompt-tokens-details", {}],
  ["--enable-server-load-tracking --disable-log-requests", {}],
  ["--enable-log-requests", { enableLogRequests: true }],
  ["--enable-force-include-usage", { enableForceIncludeUsage: true }],
  ["--enable-auto-tool-choice --tool-call-parser hermes", { toolCallParser: "hermes" }],
  ["--reasoning-parser qwen3", { reasoningParser: "think" }],
  ["--reasoning-parser=deepseek_r1", { reasoningParser: "think" }],
  ["--chat-template t.jinja", { chatTemplate: "t.jinja" }],
  ["--api-server-count 1", {}],
  ["--tensor-parallel-size 1 --pipeline-parallel-size 1 --data-parallel-size 1", {}],
  ["--dtype auto --load-format gguf", {}],
  ["--otlp-traces-endpoint http://c:4318", { otlpTracesEndpoint: "http://c:4318" }],
  ["--config k.toml", { config: "k.toml" }],
];

describe("flags of vllm serve that mean the same", () => {
  const defaults = valuesOf();
  test.each(TAKEN)("%s", (args, values) => {
    expect(valuesOf(...args.split(" "))).toEqual({ ...defaults, ...values });
  });

  test("are no flags of other commands", () => {
    const bench = (): unknown => parseCommandLine("bench engine", ["--async-scheduling"], []);
    expect(bench).toThrow("unknown flag `--async-scheduling`");
  });

  test("a name behind others, and what follows two dashes, are left as they are", () => {
    const read = (...args: string[]): readonly string[] =>
      parseCommandLine("serve", args, [MODEL]).positionals;
    expect(read("--served-model-name", "a", "m")).toEqual(["m"]);
    expect(read("--", "--async_scheduling")).toEqual(["--async_scheduling"]);
  });
});

const REFUSED: readonly (readonly [args: string, says: string])[] = [
  ["--cpu-offload-gb 4", "unknown flag `--cpu-offload-gb`"],
  ["--kv-cache-dtype fp8", "allowed is auto"],
  ["--kv-cache-dtype-skip-layers 1", "unknown flag `--kv-cache-dtype-skip-layers`"],
  ["--prefix-caching-hash-algo xxhash", "`xxhash` is not allowed; allowed is sha256_cbor"],
  ["--prefix-match-unit 1", "unknown flag `--prefix-match-unit`"],
  ["--prefix-cache-retention-interval 1", "unknown flag"],
  ["--kv-offloading-backend lmcache", "allowed is native"],
  ["--kv-offloading-size", "--kv-offloading-size needs a value"],
  ["--kv-offloading-size much", "`muchGiB` is not allowed"],
  ["--kv-transfer-config {}", "connectors are named by --kv-connector"],
  ["--kv-events-config {}", "unknown flag `--kv-events-config`"],
  ["--kv-cache-metrics", "unknown flag `--kv-cache-metrics`"],
  ["--disable-hybrid-kv-cache-manager", "unknown flag"],
  ["--mamba-cache-mode all", "unknown flag `--mamba-cache-mode`"],
  ["--max-num-scheduled-tokens 5", "unknown flag `--max-num-scheduled-tokens`: did you mean"],
  ["--long-prefill-token-threshold 5", "unknown flag"],
  ["--watermark 0.1", "unknown flag `--watermark`"],
  ["--stream-interval 4", "allowed is 1"],
  ["--disable-cascade-attn", "unknown flag"],
  ["--no-enable-chunked-prefill", "unknown flag"],
  ["--no-async-scheduling", "unknown flag"],
  ["--spec-method eagle", "allowed is none, ngram"],
  ["--spec-model m2", "unknown flag `--spec-model`"],
  ["--speculative-config ngram", "--speculative-config: `ngram` is not allowed"],
  ['--speculative-config {"method":"eagle"}', "allowed is"],
  ['--speculative-config {"method":"ngram","model":"m"}', "allowed is"],
  ["--optimization-level 3", "unknown flag"],
  ["--performance-mode throughput", "unknown flag"],
  ["--enforce-eager", "unknown flag `--enforce-eager`"],
  ["--api-server-count 4", "`4` is not allowed; allowed is 1"],
  ["--tensor-parallel-size 2", "allowed is 1"],
  ["--dtype bfloat16", "allowed is auto"],
  ["--tool-call-parser deepseek_v3", "allowed is auto, hermes"],
  ["--reasoning-parser glm45", "allowed is auto, none, think"],
  ["--headless", "unknown flag `--headless`"],
  ["--grpc", "there is HTTP only"],
  ["--enable-sleep-mode", "unknown flag `--enable-sleep-mode`"],
  ["--enable-per-request-metrics", "return_timing"],
  ["--collect-detailed-traces all", "unknown flag `--collect-detailed-traces`"],
  ["--enable-prefix-cachin", "did you mean `--enable-prefix-caching`"],
];

describe("flags of vllm serve that ask for what there is not", () => {
  test.each(REFUSED)("%s", async (args, says) => {
    const error = await thrownBy(() => valuesOf(...args.split(" ")));
    expect(error).toMatchObject({ code: "bad_config", message: expect.stringContaining(says) });
  });
});
