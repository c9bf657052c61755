/** The served workloads of the page of results: short enough for two cores, each with another thing to be good at. */

export interface ServedWorkload {
  /** Of its file. */
  readonly name: string;
  readonly title: string;
  /** Of `bench serve`. */
  readonly flags: string;
}

export const SERVED_WORKLOADS: readonly ServedWorkload[] = [
  {
    name: "serve-one",
    title: "Served: one request at a time",
    flags: "--random-input-len 256 --random-output-len 64 --num-prompts 4 --max-concurrency 1",
  },
  {
    name: "serve-sixteen",
    title: "Served: 16 requests at a time",
    flags: "--random-input-len 128 --random-output-len 32 --num-prompts 32 --max-concurrency 16",
  },
  {
    name: "serve-chats",
    title: "Served: chats that come back",
    flags:
      "--dataset-name multi-turn --num-prompts 6 --multi-turn-turns 3 --multi-turn-common-len 64 --multi-turn-first-len 192 --multi-turn-message-len 32 --multi-turn-output-len 24 --max-concurrency 6",
  },
  {
    name: "serve-prefix",
    title: "Served: prompts that begin alike",
    flags:
      "--dataset-name prefix_repetition --num-prompts 24 --prefix-repetition-num-prefixes 3 --prefix-repetition-prefix-len 384 --prefix-repetition-suffix-len 32 --prefix-repetition-output-len 16 --max-concurrency 12",
  },
  {
    name: "serve-arrivals",
    title: "Served: requests at random times",
    flags: "--random-input-len 128 --random-output-len 32 --num-prompts 16 --request-rate 1.5",
  },
];

/** Grid of `bench engine`. */
export const ENGINE_FLAGS =
  "-p 512 -n 64 -d 0,1024 -npp 128 -ntg 32 -npl 1,8,32 --repetitions 3 --limits";

/** What llama-server is started with: as many slots as requests at a time, and one KV cache for all of them. */
export const LLAMA_SERVER_FLAGS: readonly string[] = ["-np", "16", "-kvu", "-c", "16384"];
