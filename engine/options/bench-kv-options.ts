/** Rows of the option table for `bench kv`. */

export const BENCH_KV_OPTIONS = {
  side: {
    group: "bench",
    type: "texts",
    default: ["off: --no-enable-prefix-caching", "device:"],
    hint: "name: engine flags",
    commands: ["bench kv"],
    help: "One of the engines to compare, by the flags it has beside the common ones; give it once for each",
    example: "host: --kv-connector cpu-offload",
  },
} as const;
