/**
 * What each metric is, and what others call it: the same letters mean different things in different tools. Every report prints
 * this table. Sources: vLLM `benchmarks/serve.py`, SGLang `bench_serving`, guidellm `request_stats.py`, aiperf's metrics reference.
 */

export interface Definition {
  readonly metric: string;
  readonly means: string;
  readonly vllm: string;
  readonly sglang: string;
  readonly guidellm: string;
  readonly aiperf: string;
}

/** Tools, as columns are headed. */
export const TOOLS = {
  vllm: "vLLM",
  sglang: "SGLang",
  guidellm: "guidellm",
  aiperf: "aiperf",
} as const;

export const VOCABULARY: readonly Definition[] = [
  {
    metric: "TTFT",
    means: "sending → first chunk with output",
    vllm: "TTFT",
    sglang: "TTFT",
    guidellm: "TTFT",
    aiperf: "Time to First Token",
  },
  {
    metric: "TPOT",
    means: "(last chunk − first chunk) / (output tokens − 1), a value a request",
    vllm: "TPOT",
    sglang: "TPOT",
    guidellm: "ITL",
    aiperf: "Inter Token Latency",
  },
  {
    metric: "ITL",
    means: "gap before each token, all requests pooled; a chunk's gap is shared by its tokens",
    vllm: "–",
    sglang: "ITL (/generate)",
    guidellm: "–",
    aiperf: "–",
  },
  {
    metric: "ICL",
    means: "gap before each chunk, all requests pooled",
    vllm: "ITL",
    sglang: "ITL (/v1)",
    guidellm: "–",
    aiperf: "Inter Chunk Latency",
  },
  {
    metric: "E2EL",
    means: "sending → last chunk with output; guidellm's → end of the response",
    vllm: "E2EL",
    sglang: "E2E Latency",
    guidellm: "Request Latency",
    aiperf: "Request Latency",
  },
  {
    metric: "–",
    means: "(last chunk − sending) / output tokens, the first among them",
    vllm: "–",
    sglang: "–",
    guidellm: "TPOT",
    aiperf: "–",
  },
  {
    metric: "output throughput",
    means: "output tokens of completed requests / duration of the run",
    vllm: "Output token throughput",
    sglang: "Output token throughput",
    guidellm: "Output Tokens Per Second",
    aiperf: "Output Token Throughput",
  },
  {
    metric: "steady-state throughput",
    means: "the same in the longest window at full concurrency",
    vllm: "–",
    sglang: "steady state",
    guidellm: "–",
    aiperf: "–",
  },
  {
    metric: "goodput",
    means: "completed requests within all limits / duration",
    vllm: "Request goodput",
    sglang: "–",
    guidellm: "–",
    aiperf: "Goodput",
  },
];

/** Holds for all of them. */
export const STATISTICS =
  "Percentiles interpolate linearly between ranks (numpy's default), deviations are of the population; failed requests are in no latency and no throughput.";
